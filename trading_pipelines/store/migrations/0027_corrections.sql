-- A correction is kept in one row, however many candles it replaces: what they were costs a tenth of a row for each.

create table ohlcv_corrections (
    correction_id bigint generated always as identity primary key,
    instrument_id int not null,
    timeframe     text not null,
    first_ts      timestamptz not null,
    last_ts       timestamptz not null,
    candles       int not null check (candles > 0),
    replaced_at   timestamptz not null default clock_timestamp(),
    traced        boolean not null default false,
    ts            timestamptz[] not null,
    open          double precision[] not null,
    high          double precision[] not null,
    low           double precision[] not null,
    close         double precision[] not null,
    volume        double precision[] not null,
    check (first_ts <= last_ts)
);
-- Prices hardly compress, and trying costs more than the space.
alter table ohlcv_corrections
    alter column ts set storage external, alter column open set storage external, alter column high set storage external,
    alter column low set storage external, alter column close set storage external,
    alter column volume set storage external;
create index ohlcv_corrections_of on ohlcv_corrections (instrument_id, timeframe, first_ts);
create index ohlcv_corrections_untraced on ohlcv_corrections (correction_id) where not traced;
comment on table ohlcv_corrections is 'candles that one statement has replaced, per instrument, as they were known until replaced_at';
comment on column ohlcv_corrections.ts is 'open times; the other arrays go with it';
comment on column ohlcv_corrections.traced is 'what was computed from the former versions has been looked for';

insert into ohlcv_corrections
    (instrument_id, timeframe, first_ts, last_ts, candles, replaced_at, traced, ts, open, high, low, close, volume)
select r.instrument_id, r.timeframe, min(r.ts), max(r.ts), count(*), r.replaced_at, r.traced, array_agg(r.ts),
       array_agg(r.open), array_agg(r.high), array_agg(r.low), array_agg(r.close), array_agg(r.volume)
from ohlcv_revisions r group by r.instrument_id, r.timeframe, r.replaced_at, r.traced order by min(r.revision_id);

drop table ohlcv_revisions;
create view ohlcv_revisions as
select c.correction_id, c.instrument_id, c.timeframe, v.ts, v.open, v.high, v.low, v.close, v.volume, c.replaced_at
from ohlcv_corrections c
cross join lateral unnest(c.ts, c.open, c.high, c.low, c.close, c.volume) as v (ts, open, high, low, close, volume);
comment on view ohlcv_revisions is 'former versions, a row each: a candle as it was known until replaced_at; the table of the timeframe has the newest';

create or replace function keep_former_candles() returns trigger language plpgsql as $$
begin
    insert into ohlcv_corrections
        (instrument_id, timeframe, first_ts, last_ts, candles, ts, open, high, low, close, volume)
    select f.instrument_id, tg_argv[0], min(f.ts), max(f.ts), count(*), array_agg(f.ts), array_agg(f.open),
           array_agg(f.high), array_agg(f.low), array_agg(f.close), array_agg(f.volume)
    from former f group by f.instrument_id;
    return null;
end $$;

alter table source_status add column failures bigint not null default 0;
alter table source_status add column failures_in_a_row int not null default 0;
comment on column source_status.failures is 'deliveries that failed, ever';
comment on column source_status.failures_in_a_row is 'since the last one that did not';
