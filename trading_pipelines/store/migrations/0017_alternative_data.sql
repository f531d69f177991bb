-- What is known besides prices: dated numbers, texts and what was read out of them.
-- Every row has the time it speaks of (ts) and the time from which anyone could know it (available_at). A row is never
-- changed: a revised figure is another row with the same ts and a later available_at.
-- `coin` is the base currency, such as BTC, or MARKET for all of them. Rows of the source `simulated` belong to the simulated
-- market and are never read beside those of the real one.

create table observations (
    series       text not null,
    coin         text not null,
    source       text not null,
    ts           timestamptz not null,
    available_at timestamptz not null,
    value        double precision not null check (value > '-Infinity' and value < 'Infinity'),
    primary key (series, coin, source, ts, available_at)
);
create index observations_by_knowledge on observations (series, coin, source, available_at);
comment on table observations is 'dated numbers; unit, publication lag and age limit of a series are in domain/alternative/series.py';
comment on column observations.ts is 'the instant or the start of the period that the value speaks of';

create table texts (
    text_id      bigint generated always as identity primary key,
    source       text not null,
    external_id  text not null,
    kind         text not null check (kind in ('NEWS', 'POST')),
    title        text not null,
    body         text not null,
    url          text,
    author       text,
    published_at timestamptz not null,
    available_at timestamptz not null,
    language     text,
    fingerprint  bigint,
    duplicate_of bigint references texts,
    unique (source, external_id),
    check (duplicate_of < text_id)
);
create index texts_by_knowledge on texts (available_at);
comment on column texts.available_at is 'when it was fetched; for recorded texts the time they were published';
comment on column texts.title is 'plain text, markup and control characters removed';
comment on column texts.fingerprint is 'similarity hash of the normalised text; null until it is read';
comment on column texts.duplicate_of is 'the earliest text that says the same; duplicates are stored and not counted twice';

create table text_mentions (
    text_id    bigint not null references texts on delete cascade,
    coin       text not null,
    confidence double precision not null check (confidence > 0 and confidence <= 1),
    primary key (text_id, coin)
);
create index text_mentions_of on text_mentions (coin, text_id);

create table text_scores (
    text_id      bigint not null references texts on delete cascade,
    scorer       text not null,
    score        double precision not null check (score between -1 and 1),
    confidence   double precision not null check (confidence between 0 and 1),
    available_at timestamptz not null,
    detail       jsonb not null default '{}',
    primary key (text_id, scorer)
);
comment on column text_scores.scorer is 'name and version of what read the text, such as lexicon-1 or the identifier of a model';

create table quarantined_items (
    quarantine_id bigint generated always as identity primary key,
    source        text not null,
    item          text not null,
    reason        text not null,
    payload       text not null,
    seen_at       timestamptz not null default now()
);
create unique index quarantined_items_once on quarantined_items (source, reason, md5(payload));
comment on table quarantined_items is 'what a source sent and was refused, as received, cut to a length that can be looked at';

create table source_states (
    source               text primary key,
    status               text not null check (status in ('OK', 'FAILING', 'NOT_CONFIGURED')),
    detail               text not null,
    last_attempt_at      timestamptz not null,
    last_success_at      timestamptz,
    newest_item_at       timestamptz,
    consecutive_failures int not null default 0 check (consecutive_failures >= 0),
    items                bigint not null default 0,
    quarantined          bigint not null default 0
);
comment on column source_states.detail is 'what to do where it is not OK';
