-- A corrected candle leaves its former version behind, and what was computed from that is named.

create table ohlcv_revisions (
    revision_id   bigint generated always as identity primary key,
    instrument_id int not null,
    timeframe     text not null,
    ts            timestamptz not null,
    open          double precision not null,
    high          double precision not null,
    low           double precision not null,
    close         double precision not null,
    volume        double precision not null,
    replaced_at   timestamptz not null default clock_timestamp(),
    traced        boolean not null default false
);
create index ohlcv_revisions_of on ohlcv_revisions (instrument_id, timeframe, ts, replaced_at);
create index ohlcv_revisions_untraced on ohlcv_revisions (revision_id) where not traced;
comment on table ohlcv_revisions is 'former versions: a candle as it was known until replaced_at; the table of the timeframe has the newest';
comment on column ohlcv_revisions.traced is 'what was computed from the former version has been looked for';

create function keep_former_candles() returns trigger language plpgsql as $$
begin
    insert into ohlcv_revisions (instrument_id, timeframe, ts, open, high, low, close, volume)
    select f.instrument_id, tg_argv[0], f.ts, f.open, f.high, f.low, f.close, f.volume from former f;
    return null;
end $$;

create trigger keep_former after update on ohlcv_1m referencing old table as former
    for each statement execute function keep_former_candles('1m');
create trigger keep_former after update on ohlcv_5m referencing old table as former
    for each statement execute function keep_former_candles('5m');
create trigger keep_former after update on ohlcv_15m referencing old table as former
    for each statement execute function keep_former_candles('15m');
create trigger keep_former after update on ohlcv_1h referencing old table as former
    for each statement execute function keep_former_candles('1h');
create trigger keep_former after update on ohlcv_4h referencing old table as former
    for each statement execute function keep_former_candles('4h');
create trigger keep_former after update on ohlcv_1d referencing old table as former
    for each statement execute function keep_former_candles('1d');

create table stale_spans (
    stale_id      bigint generated always as identity primary key,
    dataset       text not null,
    instrument_id int not null references instruments,
    from_ts       timestamptz not null,
    until_ts      timestamptz not null,
    rows          int not null check (rows > 0),
    cause         text not null,
    verdict       text not null check (verdict in ('to rebuild', 'rebuilt', 'kept')),
    changed       int,
    noticed_at    timestamptz not null default now(),
    rebuilt_at    timestamptz,
    check (from_ts < until_ts)
);
create index stale_spans_open on stale_spans (dataset, instrument_id) where verdict = 'to rebuild';
comment on column stale_spans.rows is 'rows of the dataset whose inputs reach over the corrected candles';
comment on column stale_spans.verdict is 'kept: a log of what was predicted or decided on the former candles, which stays as it was';
comment on column stale_spans.changed is 'rows that really came out differently when they were rebuilt';
