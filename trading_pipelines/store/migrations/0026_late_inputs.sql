-- What arrives after something was computed without it: an observation or a rate that is dated back, candles that fill a
-- hole or lengthen the history. It is noted in the transaction that stores it, where anything of its time has been
-- computed already; `stale_spans` then names the rows, as it does for corrected candles.

create table late_inputs (
    late_id       bigint generated always as identity primary key,
    kind          text not null check (kind in ('candles', 'funding', 'observations')),
    instrument_id int references instruments,
    timeframe     text,
    series        text,
    coin          text,
    simulated     boolean,
    first_at      timestamptz not null,
    last_at       timestamptz not null,
    noticed_at    timestamptz not null default clock_timestamp(),
    traced        boolean not null default false,
    check (first_at <= last_at),
    check ((kind = 'candles') = (timeframe is not null)),
    check ((kind = 'observations') = (instrument_id is null)),
    check ((kind = 'observations') = (series is not null and coin is not null and simulated is not null))
);
create index late_inputs_untraced on late_inputs (late_id) where not traced;
comment on table late_inputs is 'inputs that were stored after rows that they would have been part of';
comment on column late_inputs.first_at is 'candles: first open time; funding: first settlement; observations: when the first of them could be known';
comment on column late_inputs.last_at is 'of the last one; for candles the end of the span';
comment on column late_inputs.traced is 'what was computed without them has been looked for';

-- Whether a feature row or a score of that exchange closes at `known_at` or later. The probes follow the primary keys.
create function is_computed_after(known_at timestamptz, of_exchange text) returns boolean language sql stable as $$
    select exists (
        select from instruments i cross join feature_sets s
        where i.exchange = of_exchange and i.followed and (
            exists (select from features_15m f where f.instrument_id = i.instrument_id
                    and f.feature_set_id = s.feature_set_id and f.ts >= known_at - interval '15 minutes')
            or exists (select from features_5m f where f.instrument_id = i.instrument_id
                       and f.feature_set_id = s.feature_set_id and f.ts >= known_at - interval '5 minutes')
            or exists (select from features_1h f where f.instrument_id = i.instrument_id
                       and f.feature_set_id = s.feature_set_id and f.ts >= known_at - interval '1 hour')
            or exists (select from features_4h f where f.instrument_id = i.instrument_id
                       and f.feature_set_id = s.feature_set_id and f.ts >= known_at - interval '4 hours')
            or exists (select from features_1d f where f.instrument_id = i.instrument_id
                       and f.feature_set_id = s.feature_set_id and f.ts >= known_at - interval '1 day'))
    ) or exists (
        select from composite_scores c join instruments i using (instrument_id)
        where i.exchange = of_exchange and c.ts >= known_at - interval '1 day' and c.available_at >= known_at
    )
$$;

create function note_late_observations() returns trigger language plpgsql as $$
begin
    -- What became known just now cannot have been missed.
    insert into late_inputs (kind, series, coin, simulated, first_at, last_at)
    select 'observations', late.series, late.coin, late.simulated, late.first_at, late.last_at
    from (
        select a.series, a.coin, a.source = 'simulated' as simulated, min(a.available_at) as first_at,
               max(a.available_at) as last_at
        from arrived a where a.available_at < clock_timestamp() - interval '1 minute' group by 1, 2, 3
    ) late
    where exists (
        select from (select distinct exchange from instruments where followed) e
        where (e.exchange = 'simulated') = late.simulated and is_computed_after(late.first_at, e.exchange));
    return null;
end $$;
create trigger note_late after insert on observations referencing new table as arrived
    for each statement execute function note_late_observations();

create function note_late_rates() returns trigger language plpgsql as $$
begin
    -- A rate settled at a close belongs to the next bar.
    insert into late_inputs (kind, instrument_id, first_at, last_at)
    select 'funding', late.instrument_id, late.first_at, late.last_at
    from (select a.instrument_id, min(a.ts) as first_at, max(a.ts) as last_at from arrived a group by 1) late
    join instruments i using (instrument_id)
    where is_computed_after(late.first_at + interval '1 microsecond', i.exchange);
    return null;
end $$;
create trigger note_late after insert on funding_rates referencing new table as arrived
    for each statement execute function note_late_rates();
create trigger note_corrected after update on funding_rates referencing new table as arrived
    for each statement execute function note_late_rates();

create function note_late_candles(of_instrument int, of_timeframe text, span tstzrange) returns void language sql as $$
    insert into late_inputs (kind, instrument_id, timeframe, first_at, last_at)
    select 'candles', of_instrument, of_timeframe, lower(span), upper(span)
    from instruments i
    where i.instrument_id = of_instrument and is_computed_after(
        lower(span) + case of_timeframe when '1m' then interval '1 minute' when '5m' then interval '5 minutes'
            when '15m' then interval '15 minutes' when '1h' then interval '1 hour' when '4h' then interval '4 hours'
            else interval '1 day' end,
        i.exchange)
$$;

-- Candles themselves come by the million; what of them is new is known from the coverage, page by page.
create function note_newly_covered() returns trigger language plpgsql as $$
declare
    known tstzmultirange := old.covered + coalesce((
        select range_agg(c.covered) from ohlcv_coverage c
        where c.instrument_id = new.instrument_id and c.timeframe = new.timeframe and c.source <> new.source),
        '{}'::tstzmultirange);
begin
    perform note_late_candles(new.instrument_id, new.timeframe, span) from unnest(new.covered - known) as span;
    return null;
end $$;
create trigger note_late after update of covered on ohlcv_coverage for each row
    when (new.timeframe in ('1m', '5m', '15m', '1h', '4h', '1d') and new.covered is distinct from old.covered)
    execute function note_newly_covered();

create function note_repaired() returns trigger language plpgsql as $$
begin
    perform note_late_candles(new.instrument_id, new.timeframe, span)
    from unnest(tstzmultirange(tstzrange(old.gap_start, old.gap_end))
                - case when new.verdict = 'repaired' then '{}'::tstzmultirange
                  else tstzmultirange(tstzrange(new.gap_start, new.gap_end)) end
               ) as span;
    return null;
end $$;
create trigger note_repaired after update on ohlcv_gaps for each row
    when (old.verdict <> 'repaired'
          and (new.verdict = 'repaired' or (new.gap_start, new.gap_end) is distinct from (old.gap_start, old.gap_end)))
    execute function note_repaired();

create index stale_spans_of on stale_spans (instrument_id, dataset, from_ts);
comment on table stale_spans is 'rows whose inputs were corrected, or arrived, after they were computed';
comment on column stale_spans.rows is 'rows of the dataset that read what has changed';

create table feature_builds (
    instrument_id  int not null references instruments,
    timeframe      text not null,
    from_ts        timestamptz not null,
    until_ts       timestamptz not null,
    feature_set_id int not null references feature_sets,
    inputs_hash    text not null,
    built_at       timestamptz not null default now(),
    primary key (instrument_id, timeframe, from_ts),
    check (from_ts < until_ts)
);
comment on table feature_builds is 'the newest build of the features of each stretch, usually of a day, and what they were computed from';
comment on column feature_builds.inputs_hash is 'of the definition and every input with its history: the same hash means the same rows';
