-- What texts say about a coin at an instant, per source and over all of them.
-- A row is never changed: texts that are read or scored later make a further row with a later available_at.

create table sentiment (
    coin         text not null,
    source       text not null,
    ts           timestamptz not null,
    available_at timestamptz not null check (available_at >= ts),
    scorer       text not null,
    score        double precision not null check (score between -1 and 1),
    mentions     int not null check (mentions >= 0),
    weight       double precision not null check (weight >= 0),
    low          double precision not null check (low between -1 and 0),
    high         double precision not null check (high between 0 and 1),
    primary key (coin, source, ts, available_at)
);
create index sentiment_by_time on sentiment (ts);
comment on column sentiment.coin is 'base currency, or MARKET for all texts about coins';
comment on column sentiment.source is 'a source of texts, ALL for the real ones together, simulated for the simulated market';
comment on column sentiment.ts is 'instant of the grid; texts whose score was known by then count';
comment on column sentiment.scorer is 'what read the texts; another scorer is another series in the same place';
comment on column sentiment.score is '-1 to 1, weighted by age and confidence, pulled towards neutral where little is known';
comment on column sentiment.mentions is 'texts of the last day, repetitions counted once';
comment on column sentiment.weight is 'sum of the weights behind the score';
comment on column sentiment.low is 'below it the sentiment is unusually bad for this coin; high likewise';

create index texts_unread on texts (text_id) where fingerprint is null;
