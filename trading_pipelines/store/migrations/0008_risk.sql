-- What the risk manager decides and remembers: locks that keep entries away for a time, and every verdict with its rules.

create table risk_locks (
    lock_id       bigint generated always as identity primary key,
    session_id    uuid not null references sessions on delete cascade,
    instrument_id int references instruments,
    side          text check (side in ('LONG', 'SHORT')),
    reason        text not null check (reason in ('DRAWDOWN', 'DAILY_LOSS', 'STOP_GUARD', 'STOP', 'COOLDOWN')),
    numbers       jsonb not null,
    starts_at     timestamptz not null,
    ends_at       timestamptz not null,
    lifted_at     timestamptz,
    check (ends_at > starts_at),
    check (side is null or instrument_id is not null)
);
create unique index risk_locks_once on risk_locks
    (session_id, reason, coalesce(instrument_id, 0), coalesce(side, ''), starts_at);
create index risk_locks_by_end on risk_locks (session_id, ends_at);
comment on table risk_locks is 'derived from closed positions and equity marks; entries are refused in [starts_at, ends_at) unless lifted before';
comment on column risk_locks.instrument_id is 'null: all symbols; side null: both sides';

create table risk_assessments (
    assessment_id bigint generated always as identity primary key,
    session_id    uuid not null references sessions on delete cascade,
    signal_id     uuid not null references signals on delete cascade deferrable initially deferred,
    instrument_id int not null references instruments,
    stage         text not null check (stage in ('EMISSION', 'ORDER')),
    assessed_at   timestamptz not null,
    outcome       text not null check (outcome in ('ALLOW', 'REDUCE', 'REFUSE')),
    quantity      double precision not null,
    margin        double precision not null,
    reason        text not null,
    rules         jsonb not null,
    unique (signal_id, stage, assessed_at)
);
create index risk_assessments_by_time on risk_assessments (session_id, assessed_at);
comment on column risk_assessments.rules is 'every rule in its order with outcome, value and limit';

create view position_risk as
select p.position_id,
       coalesce(own.risk, (p.quantity_initial * abs(p.entry_price - p.initial_stop_price))::float8, 0) as initial_risk
from positions p
join instruments i using (instrument_id)
cross join lateral (
    select sum(o.filled_quantity::float8 * abs(s.entry_price - case
               when o.leg = 'ENTRY' then p.initial_stop_price::float8
               when i.price_step = 0 then s.stop_price
               else (round(s.stop_price::numeric / i.price_step) * i.price_step)::float8 end)) as risk
    from orders o join signals s using (signal_id)
    where o.position_id = p.position_id and o.leg in ('ENTRY', 'ADD') and o.filled_quantity > 0
) own;
comment on view position_risk is 'R in quote currency: quantity times the distance from the reference price (close of the decision bar) to the first stop, summed over entry and additions; from the entry price where no signal is known';
