-- Market data: instruments, candles per timeframe, funding, and what is known about their completeness.
-- Every fact carries the time of the event (ts) and the time from which it was knowable (available_at).

create table instruments (
    instrument_id            int generated always as identity primary key,
    exchange                 text not null,
    symbol                   text not null,
    base                     text not null,
    quote                    text not null,
    kind                     text not null check (kind in ('spot', 'perpetual')),
    price_step               numeric not null default 0 check (price_step >= 0),
    quantity_step            numeric not null default 0 check (quantity_step >= 0),
    min_quantity             numeric not null default 0 check (min_quantity >= 0),
    min_notional             numeric not null default 0 check (min_notional >= 0),
    funding_interval_minutes int check (funding_interval_minutes > 0),
    status                   text not null default 'trading' check (status in ('trading', 'halted', 'delisted')),
    updated_at               timestamptz not null default now(),
    unique (exchange, symbol)
);
comment on column instruments.exchange is
    'exchange key: one venue and market type, e.g. binance (spot), binanceusdm, bybit (linear perpetuals)';
comment on column instruments.symbol is 'base and quote without separator, e.g. BTCUSDT';

-- One table per timeframe: retention, chunks and continuous aggregates differ per timeframe.
-- No foreign key: it would be checked for each of millions of rows; writers go through instruments anyway.
create table ohlcv_1m (
    instrument_id int not null,
    ts            timestamptz not null,
    open          double precision not null,
    high          double precision not null,
    low           double precision not null,
    close         double precision not null,
    volume        double precision not null,
    available_at  timestamptz not null,
    primary key (instrument_id, ts),
    constraint ohlc_order check (low > 0 and low <= least(open, close) and high >= greatest(open, close)),
    constraint volume_not_negative check (volume >= 0)
);
comment on column ohlcv_1m.ts is 'open time of the bar, UTC';
comment on column ohlcv_1m.volume is 'in units of the base currency';
comment on column ohlcv_1m.available_at is 'close of the bar: from then on it may be read';
create table ohlcv_5m (like ohlcv_1m including all);
create table ohlcv_15m (like ohlcv_1m including all);
create table ohlcv_1h (like ohlcv_1m including all);
create table ohlcv_4h (like ohlcv_1m including all);
create table ohlcv_1d (like ohlcv_1m including all);

create table funding_rates (
    instrument_id int not null,
    ts            timestamptz not null,
    rate          double precision not null,
    available_at  timestamptz not null,
    primary key (instrument_id, ts)
);
comment on column funding_rates.rate is 'fraction of the notional, paid by longs when positive';

-- Which spans of the fetched timeframe were asked for and answered; what is missing = wanted minus covered.
create table ohlcv_coverage (
    instrument_id int not null references instruments,
    timeframe     text not null,
    source        text not null,
    covered       tstzmultirange not null default '{}',
    primary key (instrument_id, timeframe, source)
);

-- Spans inside the coverage for which no candle exists.
create table ohlcv_gaps (
    instrument_id int not null references instruments,
    timeframe     text not null,
    gap_start     timestamptz not null,
    gap_end       timestamptz not null,
    bars          int not null check (bars > 0),
    verdict       text not null default 'open' check (verdict in ('open', 'absent', 'repaired')),
    detected_at   timestamptz not null default now(),
    checked_at    timestamptz,
    primary key (instrument_id, timeframe, gap_start)
);
comment on column ohlcv_gaps.verdict is 'absent: asked again, the source itself has no candle there';

create table ohlcv_quarantine (
    quarantine_id bigint generated always as identity primary key,
    source        text not null,
    exchange      text not null,
    symbol        text not null,
    timeframe     text not null,
    ts            timestamptz,
    reason        text not null,
    payload       jsonb not null,
    seen_at       timestamptz not null default now()
);
create unique index ohlcv_quarantine_once
    on ohlcv_quarantine (exchange, symbol, timeframe, reason, md5(payload::text));

create table source_status (
    source          text not null,
    exchange        text not null,
    symbol          text not null,
    dataset         text not null,
    last_ts         timestamptz,
    last_success_at timestamptz,
    last_error      text,
    last_error_at   timestamptz,
    rows_written    bigint not null default 0,
    rows_per_second double precision,
    primary key (source, exchange, symbol, dataset)
);

create table tickers (
    instrument_id int primary key references instruments,
    ts            timestamptz not null,
    price         double precision not null check (price > 0),
    bid           double precision,
    ask           double precision,
    change_24h    double precision,
    quote_volume_24h double precision
);
comment on table tickers is 'newest quote per instrument, kept fresh by the fast service';
comment on column tickers.change_24h is 'fraction, against the price 24 hours before';
