-- The market around what is traded: all pairs of an exchange and which of them form the universe, what appears and
-- disappears, open interest and mark prices of perpetuals, and how the holes in the candles were closed.

alter table instruments add column followed boolean not null default true;
comment on column instruments.followed is 'candles of the base timeframe are fetched and strategies may trade it; false: known from the list of markets alone';

create table universe (
    instrument_id    int not null references instruments,
    valid_from       timestamptz not null,
    valid_to         timestamptz,
    member           boolean not null,
    reasons          text[] not null,
    quote_volume_24h double precision,
    spread           double precision,
    primary key (instrument_id, valid_from),
    check (member = (cardinality(reasons) = 0)),
    check (valid_to > valid_from)
);
create unique index universe_now on universe (instrument_id) where valid_to is null;
comment on table universe is 'who belonged to the universe when, and why others did not; at T counts the row with valid_from <= T < valid_to';
comment on column universe.valid_from is 'when it was looked at, by the source''s clock; a row lasts until a look finds something else';
comment on column universe.valid_to is 'null while it holds';
comment on column universe.reasons is 'why it is no member: HALTED, DELISTED, NO_QUOTE, VOLUME or SPREAD';
comment on column universe.quote_volume_24h is 'quote currency, at the look that began the row';
comment on column universe.spread is 'best ask minus best bid over their middle; null where the venue gives no quotes';

create table listings (
    instrument_id    int not null references instruments,
    ts               timestamptz not null,
    kind             text not null check (kind in ('LISTED', 'DELISTED', 'RELISTED')),
    listed_at        timestamptz,
    first_price      double precision,
    first_volume     double precision,
    primary key (instrument_id, ts)
);
create index listings_by_time on listings (ts);
comment on table listings is 'pairs that appeared on an exchange or left it since its list of markets is watched';
comment on column listings.ts is 'when the change was seen, by the source''s clock';
comment on column listings.listed_at is 'start of trading as the exchange states it';
comment on column listings.first_price is 'quote currency, of the first quote that was seen';
comment on column listings.first_volume is 'turnover in quote currency so far, with the first quote';

create table open_interest (
    instrument_id int not null,
    ts            timestamptz not null,
    quantity      double precision not null check (quantity >= 0),
    value_usd     double precision not null check (value_usd >= 0),
    available_at  timestamptz not null,
    primary key (instrument_id, ts)
);
comment on column open_interest.quantity is 'open contracts in units of the base currency';
comment on column open_interest.value_usd is 'as the exchange states it, else quantity times the mark price';

create table mark_prices (
    instrument_id int not null,
    ts            timestamptz not null,
    open          double precision not null check (open > 0),
    high          double precision not null,
    low           double precision not null,
    close         double precision not null,
    available_at  timestamptz not null,
    primary key (instrument_id, ts),
    check (low > 0 and low <= least(open, close) and high >= greatest(open, close))
);
comment on table mark_prices is 'hourly candles of the price by which an exchange values positions';
comment on column mark_prices.ts is 'open time of the hour, UTC';

alter table ohlcv_gaps add column asked int not null default 0 check (asked >= 0);
alter table ohlcv_gaps add column repaired_from text;
comment on column ohlcv_gaps.asked is 'how often the source was asked again';
comment on column ohlcv_gaps.repaired_from is 'exchange whose candles stand in, where it is another one';

create table ohlcv_substitutes (
    instrument_id int not null references instruments,
    timeframe     text not null,
    ts            timestamptz not null,
    exchange      text not null,
    stored_at     timestamptz not null default now(),
    primary key (instrument_id, timeframe, ts)
);
comment on table ohlcv_substitutes is 'candles of another exchange in the place of missing ones; the mark goes when the own exchange delivers';
