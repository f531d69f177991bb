-- The composite score of every symbol at every close of the signal timeframe, with what it was made of.
-- Factors and inputs are arrays in the order of the definition's names; NaN is what was missing or too old.

create table score_definitions (
    definition_id   int generated always as identity primary key,
    definition_hash text not null unique,
    factors         text[] not null,
    inputs          text[] not null,
    spec            jsonb not null,
    created_at      timestamptz not null default now()
);
comment on column score_definitions.spec is 'weights and limits, as TRADING_SCORING sets them';

create table composite_scores (
    instrument_id int not null,
    bar_minutes   int not null check (bar_minutes > 0),
    ts            timestamptz not null,
    available_at  timestamptz not null,
    definition_id int not null references score_definitions,
    score         double precision not null check (score = 'NaN' or score between 0 and 100),
    confidence    double precision not null,
    coverage      double precision not null check (coverage between 0 and 1.000001),
    known         int not null check (known >= 0),
    bullish       int not null check (bullish >= 0),
    bearish       int not null check (bearish >= 0 and bullish + bearish <= known),
    consensus     int not null check (consensus in (0, bullish, bearish)),
    values        double precision[] not null,
    ages          double precision[] not null,
    weights       double precision[] not null,
    contributions double precision[] not null,
    primary key (instrument_id, bar_minutes, ts)
);
create index composite_scores_by_time on composite_scores (ts);
comment on column composite_scores.ts is 'open time of the bar at whose close it was formed; bar_minutes is its length';
comment on column composite_scores.available_at is 'close of that bar; nothing that became known later is in it';
comment on column composite_scores.score is '0 to 100, 50 neutral; NaN where too little was known';
comment on column composite_scores.confidence is '0.5 to 1, less where factors are missing; not a calibrated probability';
comment on column composite_scores.coverage is 'share of the weights whose factors were known';
comment on column composite_scores.bullish is 'factors that speak for a rise, out of the known ones; bearish for a fall';
comment on column composite_scores.consensus is 'factors that agree with the side of the score';
comment on column composite_scores.values is 'of each factor, -1 to 1';
comment on column composite_scores.ages is 'of the oldest input of each factor, in minutes';
comment on column composite_scores.weights is 'as used: renormalised over the known factors';
comment on column composite_scores.contributions is 'points above or below 50; they sum to the score less 50';

create table factor_values (
    instrument_id int not null,
    bar_minutes   int not null check (bar_minutes > 0),
    ts            timestamptz not null,
    available_at  timestamptz not null,
    definition_id int not null references score_definitions,
    raw           double precision[] not null,
    mapped        double precision[] not null,
    ages          double precision[] not null,
    primary key (instrument_id, bar_minutes, ts)
);
comment on table factor_values is 'the inputs behind the factors of composite_scores';
comment on column factor_values.raw is 'as published';
comment on column factor_values.mapped is 'from -1 to 1, as it went into its factor';
comment on column factor_values.ages is 'minutes since each input became known';

create table score_calibrations (
    calibration_id bigint generated always as identity primary key,
    made_at        timestamptz not null,
    exchange       text not null,
    symbols        text[] not null,
    timeframe      text not null,
    starts_at      timestamptz not null,
    ends_at        timestamptz not null,
    weights        double precision[] not null,
    report         jsonb not null,
    run_id         text
);
comment on table score_calibrations is 'walk-forward searches for the weights of the factors, and what came of them out of sample';
comment on column score_calibrations.weights is 'chosen in the last fold, in the order of the factors; nothing uses them by itself';
