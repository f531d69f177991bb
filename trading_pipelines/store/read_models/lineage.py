"""Where a trade came from and what became of it: the lineage as it is stored, asked in one query.

Belongs here: the SQL that walks from an order to the raw rows and from raw rows to results. Does not belong here:
which bars a feature or a strategy reads (`application.audit.lineage` knows it and passes windows), and any rendering.

Whole rows are returned as JSON objects (times as ISO text in UTC), so that a column added to a table is part of the
answer without a change here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.alternative.series import coin_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.sentiment.aggregate import AggregationSpec
from trading_pipelines.store.read_models.source_rows import Bar, observations_behind

Json = dict[str, Any]
_CONTEXT = (Timeframe.H1, Timeframe.H4, Timeframe.D1)
"""Longer timeframes whose candles are among the features."""


@dataclass(frozen=True)
class Match:
    """One stored id that a person may have meant; `signal_id` or `position_id` names the trade that it belongs to."""

    kind: str
    id: str
    signal_id: UUID | None
    position_id: UUID | None


@dataclass(frozen=True)
class Trade:
    """What is needed to know which rows a trade was decided from; the fields are null without a signal.

    Attributes
    ----------
    ts : datetime or None
        Open time of the bar at whose close it was decided.
    """

    signal_id: UUID | None
    position_id: UUID | None
    session_id: UUID
    instrument_id: int
    exchange: str
    symbol: str
    timeframe: Timeframe | None
    ts: datetime | None
    strategy: str | None
    strategy_params: Mapping[str, Any] | None
    model_id: str | None

    def __post_init__(self) -> None:
        if self.timeframe is not None:
            object.__setattr__(self, "timeframe", Timeframe(self.timeframe))


@dataclass(frozen=True)
class Window:
    """Candles that were read: those of one market that open in [first, last]."""

    role: str
    instrument_id: int
    timeframe: Timeframe
    first: datetime
    last: datetime


class Role(StrEnum):
    """What reads raw rows at the close of a bar."""

    FEATURES = "features and predictions"
    SCORES = "scores"
    DECISIONS = "decisions"


@dataclass(frozen=True)
class Reader:
    """Bars at whose close a row was read: those of a timeframe that open in [first, last].

    Attributes
    ----------
    strategy : str or None
        Whose decisions.
    instrument_ids : sequence of int or None
        None for every market of the exchange.
    """

    role: Role
    strategy: str | None
    instrument_ids: Sequence[int] | None
    timeframe: Timeframe
    first: datetime
    last: datetime


_MATCHES = """
select kind, id, signal_id, position_id from (
    select 'order' as kind, client_order_id as id, signal_id, position_id, created_at from orders
    union all
    select 'signal', signal_id::text, signal_id, null, created_at from signals
    union all
    select 'position', position_id::text, signal_id, position_id, opened_at from positions
    union all
    select 'fill', f.fill_id, p.signal_id, f.position_id, f.ts from fills f left join positions p using (position_id)
) known
where %(prefix)s::text is null or starts_with(id, %(prefix)s)
   or (kind in ('signal', 'position') and starts_with(replace(id, '-', ''), %(bare)s))
order by id <> %(prefix)s, created_at desc, id
limit %(limit)s
"""


def find(connection: psycopg.Connection[Any], prefix: str, limit: int) -> list[Match]:
    """Orders, signals, positions and fills whose id begins with `prefix`, an exact one first, then the newest.

    Ids of signals and positions may be written without their hyphens.
    """
    return _matches(connection, prefix, limit)


def newest(connection: psycopg.Connection[Any], limit: int) -> list[Match]:
    """The newest ids of all kinds, to suggest from."""
    return _matches(connection, None, limit)


def _matches(connection: psycopg.Connection[Any], prefix: str | None, limit: int) -> list[Match]:
    bare = None if prefix is None else prefix.replace("-", "")
    with connection.cursor(row_factory=class_row(Match)) as cursor:
        return cursor.execute(_MATCHES, {"prefix": prefix, "bare": bare, "limit": limit}).fetchall()


_TRADE = """
select s.signal_id, p.position_id, coalesce(s.session_id, p.session_id) as session_id,
       i.instrument_id, i.exchange, i.symbol, s.timeframe, s.ts, s.strategy, s.model_id,
       ses.config #> array['strategy_params', s.strategy] as strategy_params
from (select %(signal)s::uuid as signal_id, %(position)s::uuid as position_id) asked
left join signals s on s.signal_id = asked.signal_id
left join positions p on p.position_id = asked.position_id
join instruments i on i.instrument_id = coalesce(s.instrument_id, p.instrument_id)
join sessions ses on ses.session_id = coalesce(s.session_id, p.session_id)
"""


def trade(connection: psycopg.Connection[Any], signal_id: UUID | None, position_id: UUID | None) -> Trade | None:
    """Identify a trade by its signal, or by its position where no signal led to it."""
    with connection.cursor(row_factory=class_row(Trade)) as cursor:
        return cursor.execute(_TRADE, {"signal": signal_id, "position": position_id}).fetchone()


_LINEAGE = """
with asked as (
    select %(signal)s::uuid as signal_id, %(position)s::uuid as position_id, %(session)s::uuid as session_id,
           %(instrument)s::int as instrument_id, %(ts)s::timestamptz as ts, %(model)s::text as model_id
), trade_orders as (
    select o.* from orders o, asked
    where o.signal_id = asked.signal_id or o.position_id = asked.position_id
       or o.position_id in (select position_id from positions where signal_id = asked.signal_id)
), trade_positions as (
    select p.* from positions p, asked
    where p.signal_id = asked.signal_id or p.position_id = asked.position_id
), feature_row as (
    select f.* from {features} f, asked left join model_versions m using (model_id)
    where f.instrument_id = asked.instrument_id and f.ts = asked.ts
    order by f.feature_set_id is distinct from m.feature_set_id, f.feature_set_id desc
    limit 1
)
select jsonb_build_object(
    'session', (select to_jsonb(s) - 'config' from sessions s, asked where s.session_id = asked.session_id),
    'rules', (select s.config from sessions s, asked where s.session_id = asked.session_id),
    'instrument', (select to_jsonb(i) from instruments i, asked where i.instrument_id = asked.instrument_id),
    'orders', coalesce((select jsonb_agg(to_jsonb(o) order by o.created_at, o.leg, o.revision)
                        from trade_orders o), '[]'),
    'fills', coalesce((select jsonb_agg(to_jsonb(f) order by f.ts, f.sequence) from fills f
                       where f.client_order_id in (select client_order_id from trade_orders)), '[]'),
    'positions', coalesce((select jsonb_agg(
                               to_jsonb(p) || jsonb_build_object('net', {net}) order by p.opened_at)
                           from trade_positions p), '[]'),
    'funding', coalesce((select jsonb_agg(to_jsonb(p) order by p.ts) from funding_payments p
                         where p.position_id in (select position_id from trade_positions)), '[]'),
    'exit_decisions', coalesce((select jsonb_agg(to_jsonb(e) order by e.ts) from exit_decisions e
                                where e.position_id in (select position_id from trade_positions)), '[]'),
    'signal', (select to_jsonb(s) from signals s, asked where s.signal_id = asked.signal_id),
    'decision', (select to_jsonb(d) from decisions d join signals s
                     using (session_id, instrument_id, timeframe, ts, strategy), asked
                 where s.signal_id = asked.signal_id),
    'events', coalesce((select jsonb_agg(to_jsonb(e) order by e.event_id) from events e, asked
                        where e.session_id = asked.session_id
                          and (e.payload ->> 'signal_id' = asked.signal_id::text
                               or e.payload ->> 'position_id' in (select position_id::text from trade_positions)
                               or e.subject in (select client_order_id from trade_orders)
                               or e.subject = asked.signal_id::text)), '[]'),
    'risk', coalesce((select jsonb_agg(to_jsonb(r) order by r.assessed_at, r.assessment_id)
                      from risk_assessments r, asked where r.signal_id = asked.signal_id), '[]'),
    'prediction', (select to_jsonb(p) from predictions p, asked
                   where p.instrument_id = asked.instrument_id and p.timeframe = %(timeframe)s
                     and p.ts = asked.ts and p.model_id = asked.model_id),
    'model', (select to_jsonb(m) - 'artefact' from model_versions m, asked where m.model_id = asked.model_id),
    'promotion', (select to_jsonb(p) from model_promotions p, asked
                  where p.model_id = asked.model_id and p.effective_from <= asked.ts + %(length)s
                  order by p.effective_from desc, p.promotion_id desc limit 1),
    'features', (select to_jsonb(f) - 'values' || jsonb_build_object(
                     'definition_hash', fs.definition_hash,
                     'values', (select jsonb_object_agg(named.name, named.value)
                                from unnest(fs.names, f."values") as named (name, value)))
                 from feature_row f join feature_sets fs using (feature_set_id)),
    'score', (select to_jsonb(c) - array['values', 'ages', 'weights', 'contributions'] || jsonb_build_object(
                  'spec', d.spec,
                  'factors', (select jsonb_object_agg(n.name, jsonb_build_object('value', n.value, 'age', n.age,
                                                          'weight', n.weight, 'contribution', n.contribution))
                              from unnest(d.factors, c."values", c.ages, c.weights, c.contributions)
                                  as n (name, value, age, weight, contribution)),
                  'inputs', (select jsonb_object_agg(n.name, jsonb_build_object('raw', n.raw, 'mapped', n.mapped,
                                                         'age', n.age))
                             from factor_values f, unnest(d.inputs, f.raw, f.mapped, f.ages)
                                 as n (name, raw, mapped, age)
                             where f.instrument_id = c.instrument_id and f.bar_minutes = c.bar_minutes
                               and f.ts = c.ts and f.definition_id = c.definition_id))
              from composite_scores c join score_definitions d using (definition_id), asked
              where c.instrument_id = asked.instrument_id and c.ts = asked.ts
                and c.bar_minutes = %(minutes)s),
    'breadth', (select to_jsonb(b) from market_breadth b, asked
                where b.exchange = %(exchange)s and b.timeframe = %(timeframe)s and b.ts = asked.ts),
    'candle', (select to_jsonb(c) from {candles} c, asked
               where c.instrument_id = asked.instrument_id and c.ts = asked.ts),
    'sources', coalesce((select jsonb_agg(jsonb_build_object('source', v.source, 'timeframe', v.timeframe)
                                          order by v.source, v.timeframe)
                         from ohlcv_coverage v, asked
                         where v.instrument_id = asked.instrument_id and asked.ts <@ v.covered), '[]'),
    'candles', coalesce((select jsonb_agg(to_jsonb(w) order by w.position) from ({windows}) w), '[]')
)
"""
# One row per window; a hole is a stretch of covered time without a candle.
_WINDOW = """
select {position} as position, %(role_{position})s::text as role, i.symbol, '{timeframe}' as timeframe,
       %(first_{position})s::timestamptz as first, %(last_{position})s::timestamptz as last,
       found.candles, found.oldest, found.newest, found.newest_available_at,
       (extract(epoch from %(last_{position})s::timestamptz - %(first_{position})s::timestamptz) / {seconds})::int + 1
           as bars,
       (select coalesce(sum(g.bars), 0) from ohlcv_gaps g
        where g.instrument_id = i.instrument_id and g.timeframe = '{timeframe}' and g.verdict <> 'repaired'
          and g.gap_start <= %(last_{position})s and g.gap_end > %(first_{position})s) as missing_bars,
       (select count(*) from ohlcv_gaps g
        where g.instrument_id = i.instrument_id and g.verdict = 'repaired'
          and g.gap_start <= %(last_{position})s and g.gap_end > %(first_{position})s) as repaired_gaps,
       (select count(distinct r.ts) from ohlcv_revisions r
        where r.instrument_id = i.instrument_id and r.timeframe = '{timeframe}'
          and r.ts between %(first_{position})s and %(last_{position})s) as corrected,
       (select count(*) from ohlcv_quarantine q
        where q.exchange = i.exchange and q.symbol = i.symbol
          and q.ts between %(first_{position})s and %(last_{position})s) as quarantined
from instruments i
cross join lateral (
    select count(*) as candles, min(c.ts) as oldest, max(c.ts) as newest, max(c.available_at) as newest_available_at
    from ohlcv_{timeframe} c
    where c.instrument_id = i.instrument_id and c.ts between %(first_{position})s and %(last_{position})s
) found
where i.instrument_id = %(instrument_{position})s
"""
_NO_WINDOWS = "select 0 as position where false"
_NET = "p.realised_pnl + p.unrealised_pnl - p.fees - p.funding"


def trace(
    connection: psycopg.Connection[Any], asked: Trade, windows: Sequence[Window], texts: AggregationSpec | None = None
) -> Json:
    """Everything that is stored about one trade, from its orders back to the candles in `windows`.

    Parameters
    ----------
    texts : AggregationSpec, optional
        By which texts make a sentiment; by default as the settings have it from the start.
    """
    timeframe = asked.timeframe or Timeframe.M15  # without a bar any table answers with nothing
    params: dict[str, Any] = {
        "signal": asked.signal_id,
        "position": asked.position_id,
        "session": asked.session_id,
        "instrument": asked.instrument_id,
        "exchange": asked.exchange,
        "timeframe": timeframe,
        "length": timeframe.delta,
        "minutes": timeframe.minutes,
        "ts": asked.ts,
        "model": asked.model_id,
    }
    parts = [_NO_WINDOWS] if not windows else []
    for i, window in enumerate(windows):
        seconds = window.timeframe.minutes * 60
        parts.append(_WINDOW.format(position=i, timeframe=window.timeframe.value, seconds=seconds))
        params |= {
            f"role_{i}": window.role,
            f"instrument_{i}": window.instrument_id,
            f"first_{i}": window.first,
            f"last_{i}": window.last,
        }
    query = _LINEAGE.format(
        # Bars of one minute have no features; the table of another timeframe holds none for their times either.
        features=f"features_{timeframe.value if timeframe is not Timeframe.M1 else Timeframe.M5.value}",
        candles=f"ohlcv_{timeframe.value}",
        net=_NET,
        windows=" union all ".join(parts),
    )
    found = _one(connection, query, params)
    found["observations"], spec = [], texts or AggregationSpec()
    if asked.ts is not None and asked.timeframe is not None:
        coin = coin_of(found["instrument"]["base"])
        bar = Bar(asked.exchange, asked.instrument_id, asked.symbol, coin, asked.ts + asked.timeframe.delta)
        found["observations"] = observations_behind(connection, bar, found["features"], found["score"], spec)
    return found


def chain(connection: psycopg.Connection[Any], id_: str, texts: AggregationSpec | None = None) -> Json | None:
    """What is stored about the trade of an order, signal, position or fill, None where nothing has that id.

    The windows of `candles` are those behind the stored features; which bars a strategy read besides is known to
    `application.audit.lineage` only.
    """
    exact = next((match for match in find(connection, id_, 1) if match.id == id_), None)
    asked = None if exact is None else trade(connection, exact.signal_id, exact.position_id)
    return None if asked is None else trace(connection, asked, list(feature_windows(asked)), texts)


def feature_windows(asked: Trade) -> Iterator[Window]:
    """Candles of the traded market from which the features of the decision's bar were computed."""
    from trading_pipelines.domain.features.registry import WARMUP_BARS  # loads TA-Lib

    if asked.timeframe is None or asked.ts is None:
        return
    own, ts, frame = asked.instrument_id, asked.ts, asked.timeframe
    yield window("features, own bars", own, frame, WARMUP_BARS["signal"], ts)
    for longer in _CONTEXT:
        if longer.minutes > frame.minutes:
            yield window(f"features, {longer}", own, longer, WARMUP_BARS[longer], ts, frame)


def window(
    role: str, instrument_id: int, timeframe: Timeframe, bars: int, ts: datetime, frame: Timeframe | None = None
) -> Window:
    """`bars` before the bar of `ts` and that bar; of a timeframe longer than `frame` up to the last one closed by then.

    Without `frame` the bars are those of the decision itself.
    """
    last = ts if frame is None else timeframe.last_closed(ts + frame.delta)
    return Window(role, instrument_id, timeframe, timeframe.floor(ts) - bars * timeframe.delta, last)


_OUTCOMES = """
with chosen as materialized (
    select s.*, ses.name as session, ses.mode, i.symbol from signals s
    join sessions ses using (session_id) join instruments i using (instrument_id)
    where {condition}
), traded as (
    select c.signal_id, p.position_id, p.status, p.close_reason, p.opened_at, p.closed_at, {net} as net
    from chosen c join positions p on p.session_id = c.session_id and p.signal_id = c.signal_id
)
select jsonb_build_object(
    'signals', (select count(*) from chosen),
    'by_status', coalesce((select jsonb_object_agg(status, n) from (
                     select status, count(*) as n from chosen group by status) counted), '{{}}'),
    'orders', (select count(*) from orders where signal_id in (select signal_id from chosen)),
    'fills', (select count(*) from fills where position_id in (select position_id from traded)),
    'positions', (select count(*) from traded),
    'net', (select coalesce(sum(net), 0) from traded),
    'net_by_session', coalesce((select jsonb_object_agg(session, net) from (
                          select c.session, sum(t.net) as net from chosen c join traded t using (signal_id)
                          group by c.session) summed), '{{}}'),
    'trades', coalesce((select jsonb_agg(to_jsonb(row)) from (
        select c.signal_id, c.session, c.mode, c.symbol, c.strategy, c.timeframe, c.ts, c.side, c.status,
               c.status_reason, c.confidence, c.model_id, t.position_id, t.status as position_status, t.close_reason,
               t.opened_at, t.closed_at, t.net
        from chosen c left join traded t using (signal_id)
        order by c.ts desc, c.symbol, c.session limit %(limit)s) row), '[]')
)
"""

_MODEL = """
select jsonb_build_object(
    'model', to_jsonb(m) - 'artefact',
    'symbol', i.symbol, 'exchange', i.exchange,
    'promotions', coalesce((select jsonb_agg(to_jsonb(p) order by p.effective_from, p.promotion_id)
                            from model_promotions p where p.model_id = m.model_id), '[]'),
    'predictions', (select jsonb_build_object('rows', count(*), 'first', min(ts), 'last', max(ts),
                                              'with_outcome', count(outcome),
                                              'right', count(*) filter (where outcome = (side = 'LONG')::int))
                    from predictions p where p.model_id = m.model_id),
    'decisions', coalesce((select jsonb_object_agg(reason, n) from (
                     select d.reason, count(*) as n from decisions d where d.model_id = m.model_id
                     group by d.reason) counted), '{}')
)
from model_versions m join instruments i using (instrument_id)
where m.model_id = %(model)s
"""


def of_model(connection: psycopg.Connection[Any], model_id: str, limit: int) -> Json | None:
    """What came of one model version: predictions, decisions, signals and results; the newest `limit` trades."""
    row = connection.execute(_MODEL, {"model": model_id}).fetchone()
    if row is None:
        return None
    return {**row[0], "outcome": _outcomes(connection, "s.model_id = %(model)s", {"model": model_id, "limit": limit})}


def model_ids(connection: psycopg.Connection[Any], prefix: str, limit: int) -> list[str]:
    """Ids of model versions that begin with `prefix`, the newest first."""
    found = connection.execute(
        "select model_id from model_versions where starts_with(model_id, %s) order by created_at desc limit %s",
        (prefix, limit),
    )
    return [model_id for (model_id,) in found]


_CANDLE = """
select jsonb_build_object(
    'candle', (select to_jsonb(c) from {candles} c
               where c.instrument_id = %(instrument)s and c.ts = %(ts)s),
    'sources', coalesce((select jsonb_agg(jsonb_build_object('source', v.source, 'timeframe', v.timeframe))
                         from ohlcv_coverage v where v.instrument_id = %(instrument)s
                           and %(ts)s::timestamptz <@ v.covered), '[]'),
    'trained', coalesce((select jsonb_agg(m.model_id order by m.as_of) from model_versions m
                         where m.instrument_id = %(instrument)s
                           and m.train_from <= %(ts)s and m.as_of > %(ts)s), '[]')
)
"""
_READER = """
select {position} as position, jsonb_build_object(
    'role', '{role}', 'strategy', %(strategy_{position})s::text, 'timeframe', '{timeframe}',
    'first', %(first_{position})s::timestamptz, 'last', %(last_{position})s::timestamptz, {counts}) as reader
"""
_COUNT = """'{name}', (select count(*) from {table} r join markets using (instrument_id)
    where {condition} and r.ts between %(first_{position})s and %(last_{position})s
      and (%(instruments_{position})s::int[] is null or r.instrument_id = any(%(instruments_{position})s)))"""
_COUNTED: Mapping[Role, Mapping[str, tuple[str, str]]] = {
    Role.FEATURES: {
        "features": ("features_{timeframe}", "true"),
        "predictions": ("predictions", "r.timeframe = '{timeframe}'"),
    },
    Role.SCORES: {"scores": ("composite_scores", "r.bar_minutes = {minutes}")},
    Role.DECISIONS: {
        "decisions": ("decisions", "r.timeframe = '{timeframe}' and r.strategy = %(strategy_{position})s")
    },
}
"""What of a reader's bars is counted: table and further condition by name."""
_READ_BY = """
with markets as (select instrument_id from instruments where exchange = %(exchange)s)
select coalesce(jsonb_agg(r.reader order by r.position), '[]') from ({readers}) r
"""
_SIGNAL_READS = """
(s.strategy = %(strategy_{position})s and s.timeframe = '{timeframe}'
 and s.ts between %(first_{position})s and %(last_{position})s
 and (%(instruments_{position})s::int[] is null or s.instrument_id = any(%(instruments_{position})s)))
"""


def of_candle(
    connection: psycopg.Connection[Any],
    exchange: str,
    instrument_id: int,
    timeframe: Timeframe,
    ts: datetime,
    readers: Sequence[Reader],
    limit: int,
) -> Json:
    """What came of one candle: the rows in `readers`, versions trained on it, signals and their results.

    The candle itself is null where it is not stored.
    """
    params = {"instrument": instrument_id, "ts": ts}
    found = _one(connection, _CANDLE.format(candles=f"ohlcv_{timeframe.value}"), params)
    return {**found, **read_forward(connection, exchange, readers, limit)}


def read_forward(
    connection: psycopg.Connection[Any], exchange: str, readers: Sequence[Reader], limit: int
) -> dict[str, Any]:
    """What the bars of `readers` hold (`read_by`), and the signals decided at them with their results (`outcome`)."""
    params: dict[str, Any] = {"exchange": exchange, "limit": limit}
    rows, conditions = list[str](), list[str]()
    for i, reader in enumerate(readers):
        values = {"position": i, "timeframe": reader.timeframe.value, "minutes": reader.timeframe.minutes}
        counts = ", ".join(
            _COUNT.format(name=name, table=table.format(**values), condition=condition.format(**values), position=i)
            for name, (table, condition) in _COUNTED[reader.role].items()
        )
        rows.append(_READER.format(role=reader.role.value, counts=counts, **values))
        if reader.role is Role.DECISIONS:
            conditions.append(_SIGNAL_READS.format(**values))
        params |= {
            f"strategy_{i}": reader.strategy,
            f"instruments_{i}": None if reader.instrument_ids is None else list(reader.instrument_ids),
            f"first_{i}": reader.first,
            f"last_{i}": reader.last,
        }
    read_by: list[Json] = _one(connection, _READ_BY.format(readers=" union all ".join(rows)), params) if rows else []
    condition = f"i.exchange = %(exchange)s and ({' or '.join(conditions)})" if conditions else "false"
    return {"read_by": read_by, "outcome": _outcomes(connection, condition, params)}


def strategies_in_use(connection: psycopg.Connection[Any], exchange: str) -> list[tuple[str, Json, Timeframe]]:
    """Every strategy that has decided on an exchange, with its parameters and its timeframe."""
    found = connection.execute(
        """
        select distinct named.strategy, coalesce(s.config #> array['strategy_params', named.strategy], '{}'),
               s.timeframe
        from sessions s, unnest(s.strategies) as named (strategy)
        where s.exchange = %s order by 1, 3
        """,
        (exchange,),
    )
    return [(strategy, params, Timeframe(timeframe)) for strategy, params, timeframe in found]


def of_signal(connection: psycopg.Connection[Any], signal_id: UUID) -> Json:
    """What became of one signal."""
    return _outcomes(connection, "s.signal_id = %(signal)s", {"signal": signal_id, "limit": 1})


def _outcomes(connection: psycopg.Connection[Any], condition: str, params: Mapping[str, Any]) -> Json:
    return _one(connection, _OUTCOMES.format(condition=condition, net=_NET), params)


def _one(connection: psycopg.Connection[Any], query: str, params: Mapping[str, Any]) -> Any:
    row = connection.execute(query.encode(), params).fetchone()
    assert row is not None  # an aggregate always gives a row
    return row[0]
