-- Several strategies per session, each decision under its strategy's name, and what strategies decide about open positions.

alter table sessions add column strategies text[] check (cardinality(strategies) > 0);
update sessions set strategies = array[case strategy when 'model' then 'model_signals' else strategy end];
alter table sessions alter column strategies set not null;
alter table sessions drop column strategy;
alter table sessions add column direction text not null default 'BOTH' check (direction in ('LONG', 'SHORT', 'BOTH'));
comment on column sessions.strategies is 'in the order of precedence: of two that propose the same symbol at one close the first gets the signal';

alter table signals drop constraint signals_session_id_instrument_id_timeframe_ts_fkey;
alter table signals drop constraint signals_session_id_instrument_id_timeframe_ts_key;
alter table decisions drop constraint decisions_pkey;

alter table decisions add column strategy text not null default 'model_signals';
alter table decisions add column factors jsonb not null default '{}';
comment on column decisions.factors is 'what the strategy''s answer rests on, by name; a model''s contributions are kept with the signal';
alter table signals add column strategy text not null default 'model_signals';

alter table decisions add primary key (session_id, instrument_id, timeframe, ts, strategy);
alter table signals add unique (session_id, instrument_id, timeframe, ts, strategy);
alter table signals add foreign key (session_id, instrument_id, timeframe, ts, strategy)
    references decisions (session_id, instrument_id, timeframe, ts, strategy) on delete cascade;

create table exit_decisions (
    session_id    uuid not null references sessions on delete cascade,
    position_id   uuid not null references positions on delete cascade,
    instrument_id int not null references instruments,
    timeframe     text not null,
    ts            timestamptz not null,
    strategy      text not null,
    decided_at    timestamptz not null,
    reason        text not null,
    confidence    double precision,
    handled_at    timestamptz,
    outcome       text,
    primary key (position_id, ts)
);
create index exit_decisions_pending on exit_decisions (session_id) where handled_at is null;
comment on table exit_decisions is 'an open position that its strategy wants closed; the monitor sends the order';
comment on column exit_decisions.ts is 'open time of the bar at whose close it was decided';
comment on column exit_decisions.confidence is 'what the strategy still gave the position''s side, where it says';
