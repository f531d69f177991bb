-- Which version predicts and who wanted it so; how far the market has moved from what a version has learnt.

alter table model_promotions
    add column action text not null default 'automatic' check (action in ('automatic', 'promote', 'rollback')),
    add column requested_by text not null default 'training';
comment on column model_promotions.action is 'automatic: a training found it good enough; the others are by hand';

create table model_pins (
    pin_id        bigint generated always as identity primary key,
    model_id      text not null references model_versions,
    instrument_id int not null references instruments,
    timeframe     text not null,
    pinned_at     timestamptz not null,
    requested_by  text not null,
    reason        text not null,
    released_at   timestamptz,
    released_by   text,
    check (released_at >= pinned_at),
    check ((released_at is null) = (released_by is null))
);
create unique index model_pins_one on model_pins (instrument_id, timeframe) where released_at is null;
comment on table model_pins is 'while a version is pinned nothing takes its place, neither a training nor a person';

create function version_in_production(instrument int, frame text, at timestamptz) returns text
language sql stable as $$
    select model_id from model_promotions
    where instrument_id = instrument and timeframe = frame and effective_from <= at
    order by effective_from desc, promotion_id desc limit 1
$$;

create function check_promotion() returns trigger language plpgsql as $$
declare
    version model_versions%rowtype;
    pinned text;
begin
    select * into version from model_versions where model_id = new.model_id;
    if (version.instrument_id, version.timeframe) is distinct from (new.instrument_id, new.timeframe) then
        raise exception '% was not trained for this market and timeframe', new.model_id using errcode = 'check_violation';
    end if;
    if new.effective_from < version.as_of then
        raise exception '% has learnt from data up to %: it cannot have been in production before',
            new.model_id, version.as_of using errcode = 'check_violation';
    end if;
    select model_id into pinned from model_pins
    where instrument_id = new.instrument_id and timeframe = new.timeframe
      and pinned_at <= new.effective_from and (released_at is null or released_at > new.effective_from);
    if pinned <> new.model_id then
        raise exception '% is pinned: unpin it first', pinned using errcode = 'check_violation';
    end if;
    if new.action = 'rollback' and not exists (
        select from model_promotions where model_id = new.model_id and effective_from <= new.effective_from
    ) then
        raise exception '% has never been in production: promote it', new.model_id using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger promotions_check before insert on model_promotions for each row execute function check_promotion();

create function check_pin() returns trigger language plpgsql as $$
begin
    if new.model_id is distinct from version_in_production(new.instrument_id, new.timeframe, new.pinned_at) then
        raise exception '% is not in production: promote it first', new.model_id using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger pins_check before insert on model_pins for each row execute function check_pin();

create function refuse_other_history() returns trigger language plpgsql as $$
begin
    raise exception '% is history: it is added to, not changed', tg_table_name using errcode = 'check_violation';
end $$;
create trigger promotions_history before update on model_promotions
    for each row execute function refuse_other_history();
create trigger pins_history before update on model_pins
    for each row when (old.released_at is not null
        or (old.model_id, old.pinned_at, old.requested_by, old.reason)
            is distinct from (new.model_id, new.pinned_at, new.requested_by, new.reason))
    execute function refuse_other_history();

create function change_model(wanted text, version text, who text, why text, at timestamptz) returns text
language plpgsql as $$
declare
    row model_versions%rowtype;
    current text;
    target text := version;
begin
    select * into row from model_versions where model_id = version;
    if not found then
        raise exception 'there is no model version %', version using errcode = 'no_data_found';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('model ' || row.instrument_id || row.timeframe, 0));
    current := version_in_production(row.instrument_id, row.timeframe, at);
    if wanted in ('promote', 'rollback') then
        if wanted = 'rollback' then
            if current is distinct from version then
                raise exception '% is not in production', version using errcode = 'check_violation';
            end if;
            -- Of two ways back in a row the second goes on to the version before, not forward again.
            select p.model_id into target from model_promotions p
            where p.instrument_id = row.instrument_id and p.timeframe = row.timeframe and p.action <> 'rollback'
              and p.model_id <> version
              and (p.effective_from, p.promotion_id) < (
                  select o.effective_from, o.promotion_id from model_promotions o
                  where o.model_id = version and o.action <> 'rollback' and o.effective_from <= at
                  order by o.effective_from desc, o.promotion_id desc limit 1)
            order by p.effective_from desc, p.promotion_id desc limit 1;
            if target is null then
                raise exception 'there was no version before %', version using errcode = 'check_violation';
            end if;
        elsif current = version then
            raise exception '% is in production already', version using errcode = 'check_violation';
        end if;
        insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason, action, requested_by)
        values (target, row.instrument_id, row.timeframe, at, why, wanted, who);
    elsif wanted = 'pin' then
        if exists (select from model_pins where model_id = version and released_at is null) then
            raise exception '% is pinned already', version using errcode = 'check_violation';
        end if;
        insert into model_pins (model_id, instrument_id, timeframe, pinned_at, requested_by, reason)
        values (version, row.instrument_id, row.timeframe, at, who, why);
    elsif wanted = 'unpin' then
        update model_pins set released_at = at, released_by = who where model_id = version and released_at is null;
        if not found then
            raise exception '% is not pinned', version using errcode = 'check_violation';
        end if;
    else
        raise exception 'a model is promoted, rolled back, pinned or unpinned, not: %', wanted
            using errcode = 'check_violation';
    end if;
    return target;
end $$;
comment on function change_model is 'promote, rollback, pin or unpin from `at` on; the version that is concerned in the end';

create function request_model_change(wanted text, version text, why text) returns text
language sql security definer set search_path = public, pg_temp as $$
    select change_model(wanted, version, 'dashboard', why, clock_timestamp())
$$;
comment on function request_model_change is 'what the dashboard may do: from now on, under its own name';
revoke all on function change_model, request_model_change from public;

create view model_states as
select m.model_id, m.instrument_id, m.timeframe,
       case when m.model_id = version_in_production(m.instrument_id, m.timeframe, now()) then 'production'
            when exists (select from model_promotions p where p.model_id = m.model_id and p.effective_from <= now())
                then 'archived'
            else 'candidate' end as state,
       exists (select from model_pins p where p.model_id = m.model_id and p.released_at is null) as pinned
from model_versions m;
comment on view model_states is 'follows from the promotions, so no state can contradict them';

create table model_references (
    model_id text primary key references model_versions on delete cascade,
    content  jsonb not null
);
comment on table model_references is 'distribution of each feature over the rows that a version has learnt from';

alter table predictions add column novelty double precision check (novelty between 0 and 1);
comment on column predictions.novelty is 'share of the features beyond what the version has learnt from; null for versions without a reference';

create table model_drift (
    model_id           text not null references model_versions on delete cascade,
    day                date not null,
    computed_at        timestamptz not null,
    rows               int not null,
    features           int not null,
    drifted_features   int not null,
    novelty            double precision,
    outcomes           int not null,
    hit_rate           double precision,
    expected_hit_rate  double precision,
    log_loss           double precision,
    expected_log_loss  double precision,
    calibration_error  double precision,
    reasons            text[] not null,
    primary key (model_id, day)
);
comment on table model_drift is 'what the version in production met in the days before `day`, against its training and its folds';
comment on column model_drift.reasons is 'what is beyond its threshold; empty means no drift';

create table feature_drift (
    model_id  text not null,
    day       date not null,
    feature   text not null,
    psi       double precision not null,
    usual_psi double precision not null,
    ks        double precision not null,
    primary key (model_id, day, feature),
    foreign key (model_id, day) references model_drift on delete cascade
);
comment on column feature_drift.usual_psi is 'the largest of windows of the same length within the training';
