-- From decision to performance, per trading session. Legal status changes are rows; a trigger refuses all others.

create table sessions (
    session_id    uuid primary key,
    name          text not null unique,
    mode          text not null check (mode in ('paper', 'replay', 'live')),
    status        text not null default 'RUNNING' check (status in ('RUNNING', 'PAUSED', 'STOPPED')),
    exchange      text not null,
    symbols       text[] not null,
    timeframe     text not null,
    strategy      text not null,
    start_capital numeric not null check (start_capital > 0),
    config        jsonb not null,
    clock         timestamptz,
    fingerprint   text,
    created_at    timestamptz not null default now(),
    stopped_at    timestamptz
);
comment on column sessions.clock is 'as-of time that the session has reached; null for a session on the wall clock';
comment on column sessions.fingerprint is 'SHA-256 over all decisions and fills of a finished replay';

create table decisions (
    session_id    uuid not null references sessions on delete cascade,
    instrument_id int not null references instruments,
    timeframe     text not null,
    ts            timestamptz not null,
    decided_at    timestamptz not null,
    outcome       text not null check (outcome in ('SIGNAL', 'REJECTED')),
    reason        text not null,
    side          text check (side in ('LONG', 'SHORT')),
    confidence    double precision,
    model_id      text references model_versions,
    gates         jsonb not null,
    setup         jsonb,
    run_id        text,
    primary key (session_id, instrument_id, timeframe, ts)
);
create index decisions_by_time on decisions (session_id, ts);
comment on column decisions.ts is 'open time of the bar at whose close the decision was made';
comment on column decisions.gates is 'every gate with its value, threshold and verdict, for signals and rejections alike';

create table signals (
    signal_id       uuid primary key,
    session_id      uuid not null references sessions on delete cascade,
    instrument_id   int not null references instruments,
    timeframe       text not null,
    ts              timestamptz not null,
    created_at      timestamptz not null,
    valid_until     timestamptz not null,
    side            text not null check (side in ('LONG', 'SHORT')),
    status          text not null default 'ACTIVE',
    status_reason   text,
    entry_price     double precision not null,
    stop_price      double precision not null,
    tp1_price       double precision not null,
    tp2_price       double precision not null,
    tp3_price       double precision not null,
    atr             double precision not null,
    leverage        double precision not null,
    quantity        double precision not null,
    margin          double precision not null,
    probability     double precision not null,
    confidence      double precision not null,
    risk_reward     double precision not null,
    gross_profit    double precision not null,
    cost            double precision not null,
    net_profit      double precision not null,
    expected_value  double precision not null,
    model_id        text references model_versions,
    factors         jsonb not null,
    run_id          text,
    updated_at      timestamptz not null,
    unique (session_id, instrument_id, timeframe, ts),
    foreign key (session_id, instrument_id, timeframe, ts) references decisions on delete cascade
);
create index signals_by_status on signals (session_id, status, created_at);
comment on column signals.quantity is 'proposed at emission from the equity of that moment; the order path sizes again';
comment on column signals.gross_profit is 'expected profits and cost are fractions of the notional';

create table positions (
    position_id        uuid primary key,
    session_id         uuid not null references sessions on delete cascade,
    instrument_id      int not null references instruments,
    signal_id          uuid references signals on delete cascade,
    side               text not null check (side in ('LONG', 'SHORT')),
    status             text not null default 'OPEN' check (status in ('OPEN', 'CLOSED')),
    quantity_initial   numeric not null check (quantity_initial > 0),
    quantity_open      numeric not null check (quantity_open >= 0),
    quantity_protected numeric not null default 0,
    entry_price        numeric not null,
    entry_margin       numeric not null,
    leverage           numeric not null,
    stop_price         numeric,
    initial_stop_price numeric,
    liquidation_price  numeric,
    mark_price         numeric not null,
    unrealised_pnl     numeric not null default 0,
    realised_pnl       numeric not null default 0,
    fees               numeric not null default 0,
    funding            numeric not null default 0,
    slippage           numeric not null default 0,
    close_reason       text,
    opened_at          timestamptz not null,
    closed_at          timestamptz,
    updated_at         timestamptz not null
);
create unique index one_open_position_per_symbol on positions (session_id, instrument_id) where status = 'OPEN';
comment on column positions.realised_pnl is 'before fees and funding; net result = realised_pnl - fees - funding';
comment on column positions.funding is 'paid (positive) or received (negative) in quote currency';

create table orders (
    client_order_id   text primary key,
    session_id        uuid not null references sessions on delete cascade,
    signal_id         uuid references signals on delete cascade,
    position_id       uuid references positions on delete cascade,
    instrument_id     int not null references instruments,
    leg               text not null check (leg in ('ENTRY', 'STOP', 'TP1', 'TP2', 'TP3', 'EXIT')),
    revision          int not null default 0,
    side              text not null check (side in ('BUY', 'SELL')),
    type              text not null check (type in ('MARKET', 'STOP_MARKET', 'TAKE_PROFIT_MARKET')),
    reduce_only       boolean not null,
    quantity          numeric not null check (quantity > 0),
    trigger_price     numeric,
    requested_price   numeric,
    status            text not null default 'INTENT',
    status_reason     text,
    exchange_order_id text,
    filled_quantity   numeric not null default 0,
    average_price     numeric,
    fee               numeric not null default 0,
    created_at        timestamptz not null,
    sent_at           timestamptz,
    updated_at        timestamptz not null,
    run_id            text,
    check (filled_quantity <= quantity)
);
create index orders_by_session on orders (session_id, created_at);
create index orders_open on orders (session_id, status) where status in ('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED');
comment on table orders is 'the row is committed with status INTENT before anything is sent';

create table fills (
    fill_id         text primary key,
    client_order_id text not null references orders on delete cascade,
    session_id      uuid not null references sessions on delete cascade,
    position_id     uuid references positions on delete cascade,
    instrument_id   int not null references instruments,
    ts              timestamptz not null,
    kind            text not null check (kind in ('ENTRY', 'TP1', 'TP2', 'TP3', 'STOP', 'LIQUIDATION', 'EXIT')),
    side            text not null check (side in ('BUY', 'SELL')),
    quantity        numeric not null check (quantity > 0),
    price           numeric not null check (price > 0),
    reference_price numeric not null,
    fee             numeric not null,
    realised_pnl    numeric not null
);
create index fills_by_session on fills (session_id, ts);
comment on column fills.reference_price is 'price before slippage';

create table funding_payments (
    session_id    uuid not null references sessions on delete cascade,
    position_id   uuid not null references positions on delete cascade,
    ts            timestamptz not null,
    rate          double precision not null,
    amount        numeric not null,
    primary key (position_id, ts)
);

create table equity (
    session_id  uuid not null references sessions on delete cascade,
    ts          timestamptz not null,
    equity      double precision not null,
    cash        double precision not null,
    margin      double precision not null,
    unrealised  double precision not null,
    primary key (session_id, ts)
);
comment on table equity is 'marked at the close of each bar: equity = cash + margin + unrealised';

create table signal_transitions (
    from_status text not null,
    to_status   text not null,
    primary key (from_status, to_status)
);
insert into signal_transitions values
    ('ACTIVE', 'EXECUTED'), ('ACTIVE', 'EXPIRED'), ('ACTIVE', 'CANCELLED'), ('ACTIVE', 'REJECTED'),
    ('EXECUTED', 'HIT_TP'), ('EXECUTED', 'HIT_SL'), ('EXECUTED', 'CLOSED');

create table order_transitions (
    from_status text not null,
    to_status   text not null,
    primary key (from_status, to_status)
);
insert into order_transitions values
    ('INTENT', 'SENT'), ('INTENT', 'CANCELLED'), ('INTENT', 'REJECTED'),
    ('SENT', 'ACCEPTED'), ('SENT', 'REJECTED'), ('SENT', 'UNKNOWN'), ('SENT', 'PARTIALLY_FILLED'), ('SENT', 'FILLED'),
    ('SENT', 'CANCELLED'),
    ('UNKNOWN', 'ACCEPTED'), ('UNKNOWN', 'REJECTED'), ('UNKNOWN', 'PARTIALLY_FILLED'), ('UNKNOWN', 'FILLED'),
    ('UNKNOWN', 'CANCELLED'), ('UNKNOWN', 'INTENT'),
    ('ACCEPTED', 'PARTIALLY_FILLED'), ('ACCEPTED', 'FILLED'), ('ACCEPTED', 'CANCELLED'), ('ACCEPTED', 'REJECTED'),
    ('PARTIALLY_FILLED', 'FILLED'), ('PARTIALLY_FILLED', 'CANCELLED');
comment on table order_transitions is 'UNKNOWN to INTENT only after the exchange has proved that it never saw the order';

create function refuse_illegal_transition() returns trigger language plpgsql as $$
declare
    legal boolean;
begin
    execute format('select exists (select from %I where from_status = $1 and to_status = $2)', tg_argv[0])
        into legal using old.status, new.status;
    if not legal then
        raise exception '%: % -> % is not a legal status change', tg_table_name, old.status, new.status
            using errcode = 'check_violation';
    end if;
    return new;
end $$;

create function refuse_wrong_start() returns trigger language plpgsql as $$
begin
    if new.status <> tg_argv[0] then
        raise exception '% starts as %, not as %', tg_table_name, tg_argv[0], new.status using errcode = 'check_violation';
    end if;
    return new;
end $$;

create trigger signals_start before insert on signals for each row execute function refuse_wrong_start('ACTIVE');
create trigger signals_transition before update of status on signals for each row
    when (old.status is distinct from new.status) execute function refuse_illegal_transition('signal_transitions');
create trigger orders_start before insert on orders for each row execute function refuse_wrong_start('INTENT');
create trigger orders_transition before update of status on orders for each row
    when (old.status is distinct from new.status) execute function refuse_illegal_transition('order_transitions');
