-- Operation: the event log that feeds dashboards and alerts, heartbeats, and the kill switch.

create table events (
    event_id   bigint generated always as identity primary key,
    ts         timestamptz not null default now(),
    kind       text not null,
    severity   text not null default 'info' check (severity in ('info', 'warning', 'critical')),
    session_id uuid references sessions on delete cascade,
    subject    text not null,
    message    text not null,
    payload    jsonb not null default '{}'
);
create index events_by_session on events (session_id, event_id);
comment on table events is 'append-only; a reader resumes from the last event_id it has seen';

create function announce_event() returns trigger language plpgsql as $$
begin
    perform pg_notify('events', new.event_id::text);
    return new;
end $$;
create trigger events_announce after insert on events for each row execute function announce_event();

create table heartbeats (
    service    text primary key,
    ts         timestamptz not null,
    started_at timestamptz not null,
    detail     jsonb not null default '{}'
);

create table kill_switch (
    only_row   boolean primary key default true check (only_row),
    engaged    boolean not null,
    reason     text not null,
    changed_at timestamptz not null default now()
);
insert into kill_switch (engaged, reason) values (false, 'never engaged');
