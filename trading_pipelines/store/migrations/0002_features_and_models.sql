-- Features, model versions, promotions and predictions.

create table feature_sets (
    feature_set_id  int generated always as identity primary key,
    definition_hash text not null unique,
    names           text[] not null,
    created_at      timestamptz not null default now()
);
comment on table feature_sets is 'the ordered feature names behind the arrays of features_*; the hash covers code version and parameters';

create table features_5m (
    instrument_id  int not null,
    feature_set_id int not null,
    ts             timestamptz not null,
    available_at   timestamptz not null,
    values         double precision[] not null,
    primary key (instrument_id, feature_set_id, ts)
);
comment on column features_5m.values is 'in the order of feature_sets.names; NaN while an indicator warms up';
create table features_15m (like features_5m including all);
create table features_1h (like features_5m including all);
create table features_4h (like features_5m including all);
create table features_1d (like features_5m including all);

create table model_versions (
    model_id        text primary key,
    instrument_id   int not null references instruments,
    timeframe       text not null,
    feature_set_id  int not null references feature_sets,
    spec            jsonb not null,
    training_key    text not null unique,
    train_from      timestamptz not null,
    as_of           timestamptz not null,
    metrics         jsonb not null,
    artefact        bytea not null,
    artefact_sha256 text not null,
    code_version    text not null,
    created_at      timestamptz not null default now()
);
comment on column model_versions.training_key is 'hash of symbol, spec, feature set, as-of time and training data: the same key means the same model';
comment on column model_versions.as_of is 'the training read nothing that was not available by then';

create table model_folds (
    training_key text not null,
    fold         int not null,
    train_from   timestamptz not null,
    train_until  timestamptz not null,
    test_from    timestamptz not null,
    test_until   timestamptz not null,
    metrics      jsonb not null,
    created_at   timestamptz not null default now(),
    primary key (training_key, fold)
);
comment on table model_folds is 'checkpoints: a training that was interrupted skips the folds that are here';

create table model_promotions (
    promotion_id   bigint generated always as identity primary key,
    model_id       text not null references model_versions,
    instrument_id  int not null references instruments,
    timeframe      text not null,
    effective_from timestamptz not null,
    reason         text not null,
    created_at     timestamptz not null default now()
);
create index model_promotions_lookup on model_promotions (instrument_id, timeframe, effective_from);
comment on table model_promotions is 'the version in production at T is the newest promotion with effective_from <= T; roll back = promote the older one again';

create table predictions (
    instrument_id  int not null,
    timeframe      text not null,
    ts             timestamptz not null,
    model_id       text not null references model_versions,
    available_at   timestamptz not null,
    probability    double precision not null check (probability between 0 and 1),
    confidence     double precision not null check (confidence between 0.5 and 1),
    side           text not null check (side in ('LONG', 'SHORT')),
    outcome        smallint check (outcome in (0, 1)),
    outcome_at     timestamptz,
    created_at     timestamptz not null default now(),
    primary key (instrument_id, timeframe, ts, model_id)
);
comment on column predictions.probability is 'calibrated probability that the upper barrier is reached first';
