-- The paper exchange's own books, apart from the platform's: the platform learns of them only by asking.

create table paper_accounts (
    session_id uuid primary key references sessions on delete cascade,
    cash       numeric not null,
    sequence   bigint not null default 0
);
comment on column paper_accounts.cash is 'in quote currency, without what is bound as margin';
comment on column paper_accounts.sequence is 'counts everything that happens: orders, fills and funding payments are numbered by it';

create table paper_markets (
    session_id    uuid not null references paper_accounts on delete cascade,
    instrument_id int not null references instruments,
    advanced_to   timestamptz not null,
    last_price    double precision not null check (last_price > 0),
    primary key (session_id, instrument_id)
);
comment on column paper_markets.advanced_to is 'end of the newest market event that was applied; older events change nothing';

create table paper_orders (
    session_id        uuid not null references paper_accounts on delete cascade,
    client_order_id   text not null,
    exchange_order_id bigint not null,
    instrument_id     int not null references instruments,
    bracket_id        text,
    leg               text not null check (leg in ('ENTRY', 'STOP', 'TP1', 'TP2', 'TP3', 'EXIT')),
    side              text not null check (side in ('BUY', 'SELL')),
    type              text not null check (type in ('MARKET', 'STOP_MARKET', 'TAKE_PROFIT_MARKET')),
    reduce_only       boolean not null,
    quantity          numeric not null check (quantity > 0),
    trigger_price     numeric,
    leverage          numeric,
    status            text not null check (status in ('HELD', 'OPEN', 'FILLED', 'CANCELLED')),
    reason            text,
    filled_quantity   numeric not null default 0 check (filled_quantity <= quantity),
    average_price     numeric,
    fee               numeric not null default 0,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    primary key (session_id, client_order_id)
);
create index paper_orders_working on paper_orders (session_id, instrument_id) where status in ('HELD', 'OPEN');
comment on column paper_orders.status is 'HELD: an exit that becomes OPEN when its entry fills';
comment on column paper_orders.bracket_id is 'client order id of the entry that this order belongs to';

create table paper_positions (
    session_id       uuid not null references paper_accounts on delete cascade,
    instrument_id    int not null references instruments,
    bracket_id       text not null,
    side             text not null check (side in ('LONG', 'SHORT')),
    quantity_initial numeric not null check (quantity_initial > 0),
    quantity         numeric not null check (quantity > 0),
    entry_price      numeric not null check (entry_price > 0),
    entry_margin     numeric not null check (entry_margin > 0),
    leverage         numeric not null check (leverage >= 1),
    liquidation_price numeric not null,
    tp1_filled       boolean not null,
    opened_at        timestamptz not null,
    funded_to        timestamptz not null,
    primary key (session_id, instrument_id)
);
comment on column paper_positions.funded_to is 'funding due up to then has been paid';
comment on column paper_positions.entry_margin is 'isolated margin of quantity_initial; what is bound now = entry_margin * quantity / quantity_initial';

create table paper_fills (
    session_id      uuid not null references paper_accounts on delete cascade,
    sequence        bigint not null,
    client_order_id text,
    instrument_id   int not null references instruments,
    ts              timestamptz not null,
    kind            text not null check (kind in ('ENTRY', 'TP1', 'TP2', 'TP3', 'STOP', 'LIQUIDATION', 'EXIT')),
    side            text not null check (side in ('BUY', 'SELL')),
    quantity        numeric not null check (quantity > 0),
    price           numeric not null check (price > 0),
    reference_price numeric not null check (reference_price > 0),
    fee             numeric not null,
    realised_pnl    numeric not null,
    primary key (session_id, sequence)
);
comment on column paper_fills.client_order_id is 'null for a liquidation, which no order asked for';

create table paper_funding (
    session_id    uuid not null references paper_accounts on delete cascade,
    sequence      bigint not null,
    instrument_id int not null references instruments,
    ts            timestamptz not null,
    rate          double precision not null,
    amount        numeric not null,
    primary key (session_id, sequence),
    unique (session_id, instrument_id, ts)
);
comment on column paper_funding.amount is 'paid (positive) or received (negative) in quote currency';

alter table fills add column sequence bigint not null default 0;
comment on column fills.sequence is 'order in which the exchange reports them';
create index fills_by_position on fills (position_id, sequence);
create index orders_by_signal on orders (signal_id, leg, revision);
create index orders_by_position on orders (position_id) where leg = 'EXIT';

alter table equity add column peak double precision;
comment on column equity.peak is 'running maximum of equity, from which drawdown is measured';

-- Up to where the platform has taken over what an exchange reports, moved in the transaction that stores it.
create table exchange_cursors (
    session_id       uuid primary key references sessions on delete cascade,
    fill_sequence    bigint not null default 0,
    funding_sequence bigint not null default 0
);

alter table kill_switch
    add column cancel boolean not null default true,
    add column flatten boolean not null default false;
comment on column kill_switch.cancel is 'while engaged, cancel entry orders that have not filled';
comment on column kill_switch.flatten is 'while engaged, close every open position';
