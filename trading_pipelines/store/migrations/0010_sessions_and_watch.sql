-- Many sessions side by side, what is known of their accounts, instructions of people, and drills of the kill switch.

create table session_transitions (
    from_status text not null,
    to_status   text not null,
    primary key (from_status, to_status)
);
insert into session_transitions values
    ('RUNNING', 'PAUSED'), ('PAUSED', 'RUNNING'), ('RUNNING', 'STOPPED'), ('PAUSED', 'STOPPED');
comment on table session_transitions is 'a stopped session is over: its results stay as they are';

alter table sessions add column purpose text not null default 'trading' check (purpose in ('trading', 'drill'));
comment on column sessions.purpose is 'a drill is a throw-away session in which the kill switch is tried out; nobody trades it';
alter table sessions add column stop_requested_at timestamptz;
comment on column sessions.stop_requested_at is 'asked to close everything and stop; the fast service stops it once it is flat';

create function refuse_stop_with_something_open() returns trigger language plpgsql as $$
begin
    if exists (select from positions where session_id = new.session_id and status = 'OPEN')
       or exists (select from orders where session_id = new.session_id and leg = 'ENTRY'
                  and status in ('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED')) then
        raise exception 'session % has open positions or entries: close them before it is stopped', new.name
            using errcode = 'check_violation';
    end if;
    return new;
end $$;

create trigger sessions_transition before update of status on sessions for each row
    when (old.status is distinct from new.status) execute function refuse_illegal_transition('session_transitions');
create trigger sessions_stop_flat before update of status on sessions for each row
    when (new.status = 'STOPPED' and old.status <> 'STOPPED' and new.mode <> 'replay')
    execute function refuse_stop_with_something_open();

create table session_kill_switches (
    session_id uuid primary key references sessions on delete cascade,
    engaged    boolean not null,
    reason     text not null,
    cancel     boolean not null default true,
    flatten    boolean not null default false,
    changed_at timestamptz not null default now()
);
comment on table session_kill_switches is 'the kill switch for one session alone; no row: not engaged';

create table account_truth (
    session_id  uuid primary key references sessions on delete cascade,
    known       boolean not null,
    reason      text not null,
    since       timestamptz not null,
    checked_at  timestamptz not null,
    valid_until timestamptz not null,
    duration_ms double precision not null,
    comparisons bigint not null default 1
);
comment on table account_truth is 'whether the books agree with the exchange; while they do not, or nobody has looked, no entry is sent';
comment on column account_truth.since is 'when `known` last changed';

create table discrepancies (
    discrepancy_id uuid primary key,
    session_id     uuid not null references sessions on delete cascade,
    instrument_id  int references instruments,
    kind           text not null check (kind in ('POSITION_CLOSED_OUTSIDE', 'POSITION_OPENED_OUTSIDE', 'LIQUIDATED',
                                                 'QUANTITY', 'FILL_MISSING', 'ORDER_MISSING', 'ORPHAN_ORDER', 'BALANCE')),
    subject        text not null,
    message        text not null,
    expected       jsonb not null,
    found          jsonb not null,
    amount         numeric not null default 0,
    first_seen_at  timestamptz not null,
    last_seen_at   timestamptz not null,
    times_seen     int not null default 1,
    mended_at      timestamptz,
    mended_by      text
);
create index discrepancies_by_session on discrepancies (session_id, first_seen_at);
comment on table discrepancies is 'where the exchange and the books differed; the id follows from the difference, so the same one is one row';
comment on column discrepancies.amount is 'kind BALANCE: what the account has more (or less) than its history explains, in quote currency';

create table manual_instructions (
    instruction_id  uuid primary key default gen_random_uuid(),
    session_id      uuid not null references sessions on delete cascade,
    kind            text not null check (kind in ('OPEN', 'CLOSE', 'STOP', 'TARGET', 'SESSION')),
    idempotency_key text not null check (length(idempotency_key) between 1 and 100),
    arguments       jsonb not null,
    requested_by    text not null,
    requested_at    timestamptz not null default now(),
    valid_until     timestamptz not null,
    status          text not null default 'PENDING',
    outcome         text,
    handled_at      timestamptz,
    unique (session_id, idempotency_key)
);
create index manual_instructions_pending on manual_instructions (session_id) where status = 'PENDING';
comment on table manual_instructions is 'what a person asked for; the fast service carries it out through the order path';
comment on column manual_instructions.idempotency_key is 'the same request sent twice is one row and is carried out once';

create table instruction_transitions (
    from_status text not null,
    to_status   text not null,
    primary key (from_status, to_status)
);
insert into instruction_transitions values ('PENDING', 'DONE'), ('PENDING', 'REFUSED'), ('PENDING', 'EXPIRED');
create trigger manual_instructions_start before insert on manual_instructions for each row
    execute function refuse_wrong_start('PENDING');
create trigger manual_instructions_transition before update of status on manual_instructions for each row
    when (old.status is distinct from new.status) execute function refuse_illegal_transition('instruction_transitions');

create table kill_drills (
    drill_id     uuid primary key,
    started_at   timestamptz not null,
    finished_at  timestamptz not null,
    outcome      text not null check (outcome in ('PASSED', 'FAILED')),
    reason       text not null,
    refused_ms   double precision,
    cancelled_ms double precision,
    flat_ms      double precision,
    steps        jsonb not null
);
comment on column kill_drills.refused_ms is 'from engaging the switch until a new order was refused';
comment on column kill_drills.cancelled_ms is 'from engaging the switch until no entry waited any more';
comment on column kill_drills.flat_ms is 'from engaging the switch until no position was open, at the exchange and in the books';
