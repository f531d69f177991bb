-- Trainings as work that several processes and machines share, and that goes on after any of them has died.

create table trainings (
    training_key  text primary key,
    instrument_id int not null references instruments,
    timeframe     text not null,
    as_of         timestamptz not null,
    spec          jsonb not null,
    created_at    timestamptz not null default now(),
    finished_at   timestamptz
);
comment on table trainings is 'everything a process needs to take part in a training that another one has begun';
comment on column trainings.finished_at is 'when the version was stored; until then `trading train --resume` goes on with it';
create index trainings_unfinished on trainings (created_at) where finished_at is null;

create table training_tasks (
    training_key text not null references trainings on delete cascade,
    kind         text not null check (kind in ('search', 'fold')),
    number       int not null,
    needs        int,
    parameters   jsonb,
    worker       text,
    seconds      double precision,
    done_at      timestamptz,
    primary key (training_key, kind, number)
);
comment on table training_tasks is 'a worker holds the lock of a row while it works on it, so a killed one gives its task back at once';
comment on column training_tasks.needs is 'number of the search whose parameters a fold takes';
comment on column training_tasks.parameters is 'what a search has found';

alter table model_folds
    add column parameters jsonb,
    add column rounds int,
    add column calibration double precision,
    add column probabilities bytea;
comment on column model_folds.parameters is 'the booster''s parameters, found by a search or those of the spec';
comment on column model_folds.rounds is 'boosting rounds that early stopping left';
comment on column model_folds.calibration is 'factor on the log-odds';
comment on column model_folds.probabilities is 'of the labelled rows of the test window, as float64 in order of time';
