-- Quotes that come over a socket say so, and trades are kept as sums per minute.

alter table tickers add column streamed_at timestamptz;
comment on column tickers.streamed_at is 'when the collector received the quote over a socket, by the exchange''s clock; null if it was asked for';

create table trade_flow_1m (
    instrument_id int not null references instruments,
    ts            timestamptz not null,
    trades        int not null check (trades > 0),
    volume        double precision not null,
    buy_volume    double precision not null,
    quote_volume  double precision not null,
    last_price    double precision not null check (last_price > 0),
    last_ts       timestamptz not null,
    is_whole      boolean not null,
    primary key (instrument_id, ts)
);
create index trade_flow_1m_by_time on trade_flow_1m (ts);
comment on table trade_flow_1m is 'trades of the minute that begins at ts, as the collector has seen them; a minute without trades has no row';
comment on column trade_flow_1m.volume is 'base currency; what is not in buy_volume was sold';
comment on column trade_flow_1m.buy_volume is 'volume of which the taker was the buyer';
comment on column trade_flow_1m.is_whole is 'watched from the first to the last second; otherwise trades may be missing';
