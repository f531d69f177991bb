-- On TimescaleDB: candles, funding and features in chunks of a week, the old ones compressed, and continuous aggregates
-- of the 5m candles. Everything that reads and writes these tables is the same SQL as on plain PostgreSQL.

create extension if not exists timescaledb;

select create_hypertable(name::regclass, by_range('ts', interval '7 days'), create_default_indexes => false,
                         migrate_data => true)
from unnest(array[
    'ohlcv_1m', 'ohlcv_5m', 'ohlcv_15m', 'ohlcv_1h', 'ohlcv_4h', 'ohlcv_1d', 'funding_rates',
    'features_5m', 'features_15m', 'features_1h', 'features_4h', 'features_1d'
]) as name;

alter table ohlcv_1m set (timescaledb.compress, timescaledb.compress_segmentby = 'instrument_id', timescaledb.compress_orderby = 'ts');
alter table ohlcv_5m set (timescaledb.compress, timescaledb.compress_segmentby = 'instrument_id', timescaledb.compress_orderby = 'ts');
alter table ohlcv_15m set (timescaledb.compress, timescaledb.compress_segmentby = 'instrument_id', timescaledb.compress_orderby = 'ts');
alter table features_5m set (timescaledb.compress, timescaledb.compress_segmentby = 'instrument_id, feature_set_id', timescaledb.compress_orderby = 'ts');
alter table features_15m set (timescaledb.compress, timescaledb.compress_segmentby = 'instrument_id, feature_set_id', timescaledb.compress_orderby = 'ts');

-- A correction of a compressed candle is still an ordinary upsert; it only costs more, and corrections are young.
select add_compression_policy(name::regclass, compress_after => interval '30 days')
from unnest(array['ohlcv_1m', 'ohlcv_5m', 'ohlcv_15m', 'features_5m', 'features_15m']) as name;

-- A second derivation of the longer timeframes, by the database itself and open to any tool. What the platform trades on
-- is ohlcv_15m to ohlcv_1d: those know which buckets are complete. A check compares the two.

create materialized view ohlcv_15m_aggregate with (timescaledb.continuous, timescaledb.materialized_only = false) as
select instrument_id, time_bucket('15 minutes', ts) as ts, first(open, ts) as open, max(high) as high, min(low) as low,
       last(close, ts) as close, sum(volume) as volume, count(*) as bars
from ohlcv_5m group by instrument_id, time_bucket('15 minutes', ts) with no data;

create materialized view ohlcv_1h_aggregate with (timescaledb.continuous, timescaledb.materialized_only = false) as
select instrument_id, time_bucket('1 hour', ts) as ts, first(open, ts) as open, max(high) as high, min(low) as low,
       last(close, ts) as close, sum(volume) as volume, count(*) as bars
from ohlcv_5m group by instrument_id, time_bucket('1 hour', ts) with no data;

create materialized view ohlcv_4h_aggregate with (timescaledb.continuous, timescaledb.materialized_only = false) as
select instrument_id, time_bucket('4 hours', ts) as ts, first(open, ts) as open, max(high) as high, min(low) as low,
       last(close, ts) as close, sum(volume) as volume, count(*) as bars
from ohlcv_5m group by instrument_id, time_bucket('4 hours', ts) with no data;

create materialized view ohlcv_1d_aggregate with (timescaledb.continuous, timescaledb.materialized_only = false) as
select instrument_id, time_bucket('1 day', ts) as ts, first(open, ts) as open, max(high) as high, min(low) as low,
       last(close, ts) as close, sum(volume) as volume, count(*) as bars
from ohlcv_5m group by instrument_id, time_bucket('1 day', ts) with no data;

-- They look back less far than the shortest retention of 5m candles (30 days), or they would forget with it.
select add_continuous_aggregate_policy(
    name::regclass, start_offset => interval '28 days', end_offset => interval '5 minutes',
    schedule_interval => interval '15 minutes')
from unnest(array['ohlcv_15m_aggregate', 'ohlcv_1h_aggregate', 'ohlcv_4h_aggregate', 'ohlcv_1d_aggregate']) as name;
