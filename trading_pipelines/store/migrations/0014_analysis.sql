-- What is found out about the market as a whole: breadth, technical signals, the daily ranking, anomalies.
-- All of it follows from candles and may be built again; available_at is the close of the newest bar that was used.

create table market_breadth (
    exchange     text not null,
    timeframe    text not null,
    ts           timestamptz not null,
    available_at timestamptz not null,
    members      int not null check (members > 0),
    above_ema    double precision not null check (above_ema between 0 and 1),
    rising       double precision not null check (rising between 0 and 1),
    mean_return  double precision not null,
    primary key (exchange, timeframe, ts)
);
comment on table market_breadth is 'what a fixed basket of majors does; the features of every symbol join it';
comment on column market_breadth.members is 'symbols of the basket that had a bar there and enough history';
comment on column market_breadth.above_ema is 'share of members whose close is above their EMA(50)';
comment on column market_breadth.rising is 'share of members with a positive return over 16 bars';
comment on column market_breadth.mean_return is 'mean log return of the members over 16 bars';

create table technical_signals (
    instrument_id int not null,
    ts            timestamptz not null,
    available_at  timestamptz not null,
    side          text not null check (side in ('LONG', 'SHORT', 'NEUTRAL')),
    confidence    double precision not null check (confidence between 0 and 1),
    trend_4h      double precision not null check (trend_4h between -1 and 1),
    trend_1d      double precision not null check (trend_1d between -1 and 1),
    setup_15m     double precision not null check (setup_15m between -1 and 1),
    setup_1h      double precision not null check (setup_1h between -1 and 1),
    conflict      boolean not null,
    entry_price   double precision not null check (entry_price > 0),
    atr           double precision not null check (atr >= 0),
    stop_price    double precision,
    tp1_price     double precision,
    tp2_price     double precision,
    tp3_price     double precision,
    risk_reward   double precision,
    notional      double precision,
    quantity      double precision,
    reasons       text[] not null,
    primary key (instrument_id, ts)
);
comment on table technical_signals is 'what the charts say of each symbol every 15 minutes; an opinion, which no order follows by itself';
comment on column technical_signals.ts is 'open time of the 15-minute bar at whose close it was formed';
comment on column technical_signals.trend_4h is 'from -1 (falling) to 1 (rising), by the order of the averages';
comment on column technical_signals.stop_price is 'null, as the targets and the size, for NEUTRAL';
comment on column technical_signals.notional is 'for the session capital in the settings, with nothing else open; quote currency';

create table screener_rankings (
    instrument_id int not null,
    ts            timestamptz not null,
    available_at  timestamptz not null,
    rank          int not null check (rank > 0),
    symbols       int not null check (symbols >= rank),
    score         double precision not null check (score between 0 and 1),
    trend         double precision not null check (trend between 0 and 1),
    volume        double precision not null check (volume between 0 and 1),
    volatility    double precision not null check (volatility between 0 and 1),
    rsi_setup     double precision not null check (rsi_setup between 0 and 1),
    direction     text not null check (direction in ('LONG', 'SHORT')),
    reasons       text[] not null,
    primary key (instrument_id, ts)
);
create index screener_rankings_by_day on screener_rankings (ts, rank);
comment on table screener_rankings is 'the universe of an exchange in order, once a day';
comment on column screener_rankings.ts is 'the UTC day that was looked at; known when it had ended';

create table anomalies (
    instrument_id int not null,
    timeframe     text not null,
    ts            timestamptz not null,
    kind          text not null check (kind in
        ('VOLATILITY', 'PRICE_SPIKE', 'VOLUME_SPIKE', 'PUMP', 'PUMP_AND_DUMP', 'WASH_TRADING')),
    available_at  timestamptz not null,
    measure       double precision not null check (measure >= 1),
    change        double precision not null,
    volume_ratio  double precision not null,
    primary key (instrument_id, timeframe, ts, kind)
);
create index anomalies_by_time on anomalies (ts);
comment on column anomalies.measure is 'multiple of the size from which the kind counts as an anomaly';
comment on column anomalies.change is 'return of the bar, as a fraction';
comment on column anomalies.volume_ratio is 'volume of the bar over the median of a week';
