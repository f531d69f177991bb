-- Which rules a session had at which time, and what the daily comparison with a replay of its rows has found.

create table session_rules (
    session_id uuid not null references sessions on delete cascade,
    valid_from timestamptz not null,
    symbols    text[] not null,
    strategies text[] not null,
    direction  text not null,
    config     jsonb not null,
    primary key (session_id, valid_from)
);
comment on table session_rules is 'every version of a session''s rules; the newest that is not later than a decision judged it';
insert into session_rules
select session_id, created_at, symbols, strategies, direction, config from sessions;

create function keep_session_rules() returns trigger language plpgsql as $$
begin
    insert into session_rules (session_id, valid_from, symbols, strategies, direction, config)
    values (new.session_id, clock_timestamp(), new.symbols, new.strategies, new.direction, new.config);
    return null;
end $$;
create trigger sessions_first_rules after insert on sessions for each row execute function keep_session_rules();
create trigger sessions_changed_rules after update on sessions for each row
    when ((old.symbols, old.strategies, old.direction, old.config)
          is distinct from (new.symbols, new.strategies, new.direction, new.config))
    execute function keep_session_rules();

create table parity_reports (
    session_id         uuid not null references sessions on delete cascade,
    day                date not null,
    computed_at        timestamptz not null,
    decisions          int not null,
    replayed           int not null,
    equal              int not null,
    late               int not null,
    missed             int not null,
    diverged           int not null,
    fingerprint        text not null,
    replay_fingerprint text not null,
    first_divergence   jsonb,
    differences        jsonb not null,
    positions          int not null,
    fills              int not null,
    fills_matched      int not null,
    price_bps_mean     double precision,
    price_bps_median   double precision,
    price_bps_worst    double precision,
    fill_differences   jsonb not null,
    run_id             text,
    primary key (session_id, day)
);
create index parity_reports_by_time on parity_reports (computed_at);
comment on column parity_reports.day is 'UTC day in which the bars open';
comment on column parity_reports.decisions is 'what the session decided; replayed counts what a session in time decides from the same rows';
comment on column parity_reports.late is 'another verdict because of when it was made: the same as live when asked again as of that moment';
comment on column parity_reports.missed is 'bars that the session never decided: it was paused or the platform was down';
comment on column parity_reports.diverged is 'another verdict from the same rows, rules and moment: a defect, or rows that were corrected since';
comment on column parity_reports.fills_matched is 'fills that the model makes as well, by position and kind';
comment on column parity_reports.price_bps_mean is 'what real fills cost more than modelled ones, in bps of the price; negative is better than the model';
