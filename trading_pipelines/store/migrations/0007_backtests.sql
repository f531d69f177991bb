-- Backtests and parameter searches: what was asked, of which data and code, and everything that came out.

create table backtest_searches (
    search_id    uuid primary key,
    created_at   timestamptz not null default now(),
    exchange     text not null,
    symbols      text[] not null,
    timeframe    text not null,
    starts_at    timestamptz not null,
    ends_at      timestamptz not null,
    strategy     text not null,
    space        jsonb not null,
    plan         jsonb not null,
    config       jsonb not null,
    code_version text not null,
    input_hash   text not null,
    folds        jsonb not null,
    overfitting  jsonb not null,
    run_id       text
);
comment on column backtest_searches.space is 'values that were tried, by parameter';
comment on column backtest_searches.plan is 'number and lengths of the windows, what was maximised, how many combinations were tried';
comment on column backtest_searches.folds is 'per window the parameters chosen in sample, their figure there and out of sample';
comment on column backtest_searches.overfitting is 'deflated Sharpe ratio, probability of backtest overfitting, and what they were made from';
create index backtest_searches_by_time on backtest_searches (created_at);

create table backtest_trials (
    search_id uuid not null references backtest_searches on delete cascade,
    number    int not null,
    params    jsonb not null,
    in_sample double precision[] not null,
    figures   jsonb not null,
    primary key (search_id, number)
);
comment on column backtest_trials.in_sample is 'what was maximised, per window; null where there was nothing to compute it from';
comment on column backtest_trials.figures is 'of one account over the whole span, in and out of sample alike';

create table backtests (
    backtest_id      uuid primary key,
    created_at       timestamptz not null default now(),
    search_id        uuid references backtest_searches on delete cascade,
    exchange         text not null,
    symbols          text[] not null,
    timeframe        text not null,
    finer            text,
    starts_at        timestamptz not null,
    ends_at          timestamptz not null,
    strategy         text not null,
    params           jsonb not null,
    direction        text not null check (direction in ('LONG', 'SHORT', 'BOTH')),
    start_capital    double precision not null check (start_capital > 0),
    config           jsonb not null,
    code_version     text not null,
    input_hash       text not null,
    bars             bigint not null,
    candidates       bigint not null,
    refusals         jsonb not null,
    metrics          jsonb not null,
    benchmark        text,
    benchmark_metrics jsonb,
    strategy_check   jsonb,
    run_id           text
);
comment on column backtests.backtest_id is 'made from everything that determines the result, so the same backtest again replaces its rows';
comment on column backtests.search_id is 'the search whose out-of-sample results, one after the other, this is';
comment on column backtests.config is 'execution, limits and gates that were in force';
comment on column backtests.input_hash is 'SHA-256 over candles, funding, features, predictions and rounding steps';
comment on column backtests.bars is 'bars of all symbols on which fills were looked for';
comment on column backtests.refusals is 'candidates that a risk rule refused, by rule';
comment on column backtests.benchmark is 'symbol that was bought and held for comparison';
comment on column backtests.strategy_check is 'lookahead and warm-up checks; null where they were skipped';
create index backtests_by_time on backtests (created_at);
create index backtests_by_search on backtests (search_id);

create table backtest_trades (
    backtest_id     uuid not null references backtests on delete cascade,
    number          int not null,
    symbol          text not null,
    side            text not null check (side in ('LONG', 'SHORT')),
    decided_at      timestamptz not null,
    opened_at       timestamptz not null,
    closed_at       timestamptz,
    quantity        double precision not null,
    reference_price double precision not null,
    entry_price     double precision not null,
    entry_margin    double precision not null,
    stop_price      double precision not null,
    confidence      double precision not null,
    size_rule       text not null,
    pnl             double precision not null,
    fees            double precision not null,
    funding         double precision not null,
    slippage        double precision not null,
    net             double precision not null,
    additions       int not null,
    initial_risk    double precision not null,
    r               double precision,
    closed_by       text,
    exit_reason     text,
    primary key (backtest_id, number)
);
comment on table backtest_trades is 'one row per position; closed_at is null for what is still open at the end';
comment on column backtest_trades.pnl is 'before fees and funding, slippage included; net is after them';

create table backtest_fills (
    backtest_id     uuid not null references backtests on delete cascade,
    number          int not null,
    trade           int not null,
    symbol          text not null,
    ts              timestamptz not null,
    kind            text not null,
    quantity        double precision not null,
    reference_price double precision not null,
    price           double precision not null,
    fee             double precision not null,
    pnl             double precision not null,
    primary key (backtest_id, number)
);

create table backtest_equity (
    backtest_id uuid not null references backtests on delete cascade,
    ts          timestamptz not null,
    equity      double precision not null,
    benchmark   double precision,
    primary key (backtest_id, ts)
);
comment on column backtest_equity.benchmark is 'the start capital held in the benchmark';
