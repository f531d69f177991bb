-- Large transactions, flows of exchanges and what prediction markets expect. As in 0017 every row has the time it speaks of
-- and the time from which anyone could know it, and rows of the source `simulated` belong to the simulated market.

create table whale_transactions (
    source         text not null,
    transaction_id text not null,
    blockchain     text not null,
    coin           text not null,
    ts             timestamptz not null,
    available_at   timestamptz not null check (available_at >= ts),
    amount         double precision not null check (amount > 0 and amount < 'Infinity'),
    amount_usd     double precision not null check (amount_usd > 0 and amount_usd < 'Infinity'),
    sender_kind    text not null check (sender_kind in ('EXCHANGE', 'WHALE', 'UNKNOWN')),
    sender         text not null,
    recipient_kind text not null check (recipient_kind in ('EXCHANGE', 'WHALE', 'UNKNOWN')),
    recipient      text not null,
    direction      text not null check (direction in ('INFLOW', 'OUTFLOW', 'TRANSFER')),
    alerted_at     timestamptz,
    primary key (source, transaction_id)
);
create index whale_transactions_by_time on whale_transactions (ts, coin);
create index whale_transactions_by_knowledge on whale_transactions (available_at);
comment on table whale_transactions is 'large transactions on chains, each once';
comment on column whale_transactions.ts is 'when the transaction entered its chain';
comment on column whale_transactions.amount is 'in coins';
comment on column whale_transactions.sender is 'name of the owner, or the address where the owner is not known';
comment on column whale_transactions.direction is 'seen from the exchanges: coins to them, from them, or neither';
comment on column whale_transactions.alerted_at is 'when an event told of it; null for what is too small or was old when it was seen';

create table exchange_flows (
    source       text not null,
    coin         text not null,
    ts           timestamptz not null,
    available_at timestamptz not null,
    inflow       double precision not null check (inflow >= 0 and inflow < 'Infinity'),
    outflow      double precision not null check (outflow >= 0 and outflow < 'Infinity'),
    unit         text not null check (unit in ('USD', 'COIN')),
    primary key (source, coin, ts, available_at)
);
create index exchange_flows_by_time on exchange_flows (ts);
comment on table exchange_flows is 'sums of an hour over exchanges, as a source publishes them; MARKET is all stablecoins';
comment on column exchange_flows.ts is 'start of the hour';

create table prediction_markets (
    source        text not null,
    market_id     text not null,
    event_id      text not null,
    question      text not null,
    coin          text not null,
    kind          text not null
        check (kind in ('ABOVE', 'BELOW', 'BETWEEN', 'HIT_ABOVE', 'HIT_BELOW', 'UP_OR_DOWN', 'EVENT')),
    strike        double precision check (strike > 0 and strike < 'Infinity'),
    upper_strike  double precision check (upper_strike > strike and upper_strike < 'Infinity'),
    expires_at    timestamptz not null,
    status        text not null check (status in ('OPEN', 'RESOLVED', 'VANISHED')),
    outcome       double precision check (outcome between 0 and 1),
    first_seen_at timestamptz not null,
    last_seen_at  timestamptz not null,
    closed_at     timestamptz,
    primary key (source, market_id),
    check ((kind = 'BETWEEN') = (upper_strike is not null)),
    check ((kind in ('UP_OR_DOWN', 'EVENT')) = (strike is null)),
    check (outcome is null or status = 'RESOLVED'),
    check ((status = 'OPEN') = (closed_at is null))
);
create index prediction_markets_by_coin on prediction_markets (coin, expires_at);
comment on column prediction_markets.coin is 'the coin that the question is about; MARKET where it names none';
comment on column prediction_markets.strike is 'price in USD; of a BETWEEN the lower one';
comment on column prediction_markets.status is 'VANISHED: no longer listed, and not resolved as far as the source says';
comment on column prediction_markets.outcome is 'what the first outcome paid; null while it is not known, one half where it was divided';
comment on column prediction_markets.closed_at is 'when it was seen to be resolved or gone';

create table prediction_odds (
    source        text not null,
    market_id     text not null,
    ts            timestamptz not null,
    available_at  timestamptz not null,
    probability   double precision not null check (probability between 0 and 1),
    spread        double precision check (spread between 0 and 1),
    liquidity_usd double precision check (liquidity_usd >= 0 and liquidity_usd < 'Infinity'),
    volume_usd    double precision check (volume_usd >= 0 and volume_usd < 'Infinity'),
    alerted_at    timestamptz,
    primary key (source, market_id, ts),
    foreign key (source, market_id) references prediction_markets on delete cascade
);
create index prediction_odds_by_knowledge on prediction_odds (available_at);
comment on column prediction_odds.probability is 'price of the first outcome, Yes or Up';
comment on column prediction_odds.spread is 'best ask minus best bid; null in a history, which has only prices';

create table implied_distributions (
    source       text not null,
    coin         text not null,
    expires_at   timestamptz not null,
    method       text not null check (method in ('TERMINAL', 'TOUCH')),
    ts           timestamptz not null,
    available_at timestamptz not null,
    spot         double precision not null check (spot > 0),
    rungs        int not null check (rungs >= 2),
    repaired     double precision not null check (repaired between 0 and 1),
    weight_usd   double precision not null check (weight_usd >= 0),
    above_spot   double precision check (above_spot between 0 and 1),
    q10          double precision,
    q25          double precision,
    median       double precision,
    q75          double precision,
    q90          double precision,
    strikes      double precision[] not null,
    survival     double precision[] not null,
    primary key (source, coin, expires_at, method, ts)
);
create index implied_distributions_by_time on implied_distributions (ts);
comment on table implied_distributions is 'prices of a coin at an expiry as the ladder of its markets expects them, each hour';
comment on column implied_distributions.method is 'TOUCH: from markets on whether a price is reached before the expiry, halved by reflection';
comment on column implied_distributions.spot is 'last close known at ts';
comment on column implied_distributions.repaired is 'largest change that made the ladder monotone';
comment on column implied_distributions.above_spot is 'probability of a price above spot; null where spot lies outside of the ladder';
comment on column implied_distributions.survival is 'probability of a price above each of the strikes, after the repair';
