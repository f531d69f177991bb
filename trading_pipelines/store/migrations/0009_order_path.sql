-- Orders that fill in parts, additions to a position, trades without a signal, and how much of what is open is protected.

alter table instruments add column max_leverage numeric check (max_leverage >= 1);
comment on column instruments.max_leverage is 'the venue''s limit for a new position; null where it states none';

-- The platform's orders
alter table orders drop constraint orders_leg_check;
alter table orders add constraint orders_leg_check
    check (leg in ('ENTRY', 'ADD', 'STOP', 'TP1', 'TP2', 'TP3', 'EXIT'));
alter table orders drop constraint orders_quantity_check;
alter table orders add constraint orders_quantity_check check (quantity > 0 or (quantity = 0 and leg in ('TP1', 'TP2', 'TP3')));
comment on column orders.quantity is 'follows the exchange: exits have the size of what they protect, a target may have none while its entry fills in parts';
alter table orders add column trade text generated always as (split_part(client_order_id, '-', 1)) stored;
comment on column orders.trade is 'what the client order ids of one trade begin with: its signal or the instruction of a person';
create index orders_by_trade on orders (trade);
alter table orders add column reject_code text;
comment on column orders.reject_code is 'why the exchange refused it, in one word of ours whatever the venue calls it';

alter table fills add column source text not null default 'EXCHANGE' check (source in ('EXCHANGE', 'RECONCILED'));
comment on column fills.source is 'RECONCILED: our own record of what the exchange did without reporting a fill';

-- The life of a position
create table position_transitions (
    from_status text not null,
    to_status   text not null,
    primary key (from_status, to_status)
);
insert into position_transitions values ('OPEN', 'CLOSED'), ('CLOSED', 'OPEN');
comment on table position_transitions is 'CLOSED to OPEN only when the record that closed it is withdrawn; see reopening';
create function refuse_wrong_reopening() returns trigger language plpgsql as $$
begin
    if exists (select from fills where position_id = new.position_id
               group by position_id
               having sum(quantity) filter (where kind <> 'ENTRY') >= sum(quantity) filter (where kind = 'ENTRY')) then
        raise exception 'positions: CLOSED -> OPEN is not a legal status change: its fills close it'
            using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger positions_start before insert on positions for each row execute function refuse_wrong_start('OPEN');
create trigger positions_transition before update of status on positions for each row
    when (old.status is distinct from new.status) execute function refuse_illegal_transition('position_transitions');
create trigger positions_reopening before update of status on positions for each row
    when (old.status = 'CLOSED' and new.status = 'OPEN') execute function refuse_wrong_reopening();
alter table positions add constraint closed_means_nothing_open check ((status = 'CLOSED') = (quantity_open = 0));
alter table positions add constraint protection_within_what_is_open
    check (quantity_protected between 0 and quantity_open);

-- One row for as long as the answer stays the same, so a look every two seconds does not fill the disk.
create table protection_checks (
    position_id        uuid not null references positions on delete cascade,
    session_id         uuid not null references sessions on delete cascade,
    since              timestamptz not null,
    until              timestamptz not null check (until >= since),
    looks              bigint not null default 1,
    quantity_open      numeric not null,
    quantity_protected numeric not null,
    primary key (position_id, since)
);
create index protection_checks_by_time on protection_checks (session_id, until);
create index protection_checks_bare on protection_checks (session_id, since) where quantity_protected < quantity_open;
comment on table protection_checks is 'open and protected quantity of each position, from the first look that found these two numbers to the last';

-- The paper exchange
alter table paper_orders drop constraint paper_orders_leg_check;
alter table paper_orders add constraint paper_orders_leg_check
    check (leg in ('ENTRY', 'ADD', 'STOP', 'TP1', 'TP2', 'TP3', 'EXIT'));
alter table paper_orders drop constraint paper_orders_quantity_check;
alter table paper_orders add constraint paper_orders_quantity_check check (quantity >= 0);
alter table paper_orders
    add column weight numeric not null default 1,
    add column effective_at timestamptz not null default to_timestamp(0),
    add column replaces text,
    add column is_triggered boolean not null default false;
update paper_orders set weight = quantity, effective_at = created_at;
comment on column paper_orders.status is 'HELD waits: an exit for its entry''s fill, a replacement for its time';
comment on column paper_orders.effective_at is 'from then on the order counts';
comment on column paper_orders.weight is 'quantity that was asked for; what is open is split over the targets in proportion to it';
comment on column paper_orders.replaces is 'working order whose place it takes when it comes into force';
comment on column paper_orders.is_triggered is 'its price was reached and only part of it filled: the rest is at the market';
