"""Rows from outside behind a trade, as they were known when it was decided, and what those rows were made of.

Belongs here: loading the rows that `domain.lineage` names for the features and the score of one bar, and the texts,
transactions, flows and distributions behind a derived value. Does not belong here: orders, signals and candles
(`store.read_models.lineage`), and any rendering.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.alternative.series import MARKET, SERIES, SIMULATED
from trading_pipelines.domain.onchain.transactions import STABLECOINS
from trading_pipelines.domain.sentiment.aggregate import ALL, AggregationSpec

if TYPE_CHECKING:
    from trading_pipelines.domain.features.observations import Observed

Json = dict[str, Any]
MOST_ROWS = 5
"""Of many texts or transactions behind a value so many are named, the weightiest first."""
_LATE = timedelta(days=7)
"""From the time that a value speaks of until it became known: what took longer is not looked for."""

_READ = """
select o.series, o.coin, o.source, o.ts, o.available_at, o.value
from unnest(%(series)s::text[], %(coin)s::text[], %(since)s::timestamptz[]) as wanted (series, coin, since)
join observations o on o.series = wanted.series and o.coin = wanted.coin
where (o.source = %(simulated)s) = %(is_simulated)s
  and o.available_at >= wanted.since and o.available_at <= %(until)s
union all
select 'funding_rate', %(symbol)s, %(exchange)s, ts, available_at, rate from funding_rates
where instrument_id = %(instrument)s and ts >= %(funding_since)s and available_at <= %(until)s
order by available_at, ts
"""
# The share of a text is that of `text_scores.scored_mentions`, its weight that of `domain.sentiment.aggregate`.
_TEXTS = """
with counted as (
    select t.text_id, t.source, t.title, t.url, t.published_at, s.available_at as known_at, s.scorer, s.score,
           0.5 ^ (extract(epoch from v.ts - t.published_at)::float8 / 3600 / %(half_life)s) * s.confidence
               * m.confidence / case when m.coin = 'MARKET' then 1 else (
                     select count(*) from text_mentions o where o.text_id = t.text_id and o.coin <> 'MARKET') end
               as weight
    from sentiment v
    join texts t on t.available_at between v.ts - %(horizon)s and v.ts
    join text_scores s on s.text_id = t.text_id and s.scorer = any(string_to_array(v.scorer, ' + '))
    join text_mentions m on m.text_id = t.text_id and m.coin = v.coin
    where v.coin = %(coin)s and v.source = %(total)s and v.ts = %(ts)s and v.available_at = %(available_at)s
      and t.published_at >= v.ts - %(horizon)s and s.available_at <= v.ts
      and (t.source = %(simulated)s) = %(is_simulated)s and t.duplicate_of is null
)
select 'texts' as kind, count(*) as count,
       sum(score * weight) / nullif(sum(weight) + %(prior)s, 0) as value,
       (select jsonb_agg(to_jsonb(first)) from (
            select * from counted order by weight desc, text_id limit %(limit)s) first) as rows
from counted
"""
_TRANSACTIONS = """
with counted as (
    select transaction_id, blockchain, coin, ts, available_at, direction, amount_usd, sender, recipient
    from whale_transactions
    where source = %(source)s and ts >= %(ts)s and ts < %(ends)s and available_at <= %(available_at)s
      and direction <> 'TRANSFER'
      and (coin = %(coin)s or (%(coin)s = 'MARKET' and coin = any(%(stablecoins)s) and direction = 'INFLOW'))
)
select 'transactions' as kind, count(*) as count,
       sum(case direction when 'INFLOW' then amount_usd else -amount_usd end) as value,
       (select jsonb_agg(to_jsonb(first)) from (
            select * from counted order by amount_usd desc, transaction_id limit %(limit)s) first) as rows
from counted
"""
_FLOWS = """
select 'flows' as kind, count(*) as count, null::float8 as value, jsonb_agg(to_jsonb(f)) as rows
from (select * from exchange_flows where source = %(source)s and coin = %(coin)s and ts = %(ts)s
        and available_at <= %(available_at)s order by available_at desc limit 1) f
"""
_DISTRIBUTIONS = """
select 'distributions' as kind, count(*) as count, null::float8 as value,
       jsonb_agg(to_jsonb(d) - array['strikes', 'survival'] order by d.expires_at, d.method) as rows
from implied_distributions d where source = %(source)s and coin = %(coin)s and ts = %(ts)s
"""
_BEHIND = {
    "sentiment": (_TEXTS,),
    "exchange_netflow_usd": (_FLOWS, _TRANSACTIONS),
    "stablecoin_inflow_usd": (_FLOWS, _TRANSACTIONS),
    "whale_score": (_TRANSACTIONS,),
    "prediction_bias": (_DISTRIBUTIONS,),
}
"""Where the rows behind a derived value are; the first place that has some."""


@dataclass(frozen=True)
class Bar:
    """The bar at whose close something was decided, and the market that it is of."""

    exchange: str
    instrument_id: int
    symbol: str
    coin: str
    closes_at: datetime

    @property
    def is_simulated(self) -> bool:
        """Whether it belongs to the simulated market."""
        return self.exchange == SIMULATED


@dataclass(frozen=True)
class _Series:
    """The versions of one series in the order in which they became known, and who delivered each."""

    source: Sequence[str]
    ts: Sequence[datetime]
    available_at: Sequence[datetime]
    value: Sequence[float]

    def row(self, position: int) -> Json:
        """One row as JSON."""
        return {
            "source": self.source[position],
            "ts": self.ts[position].isoformat(),
            "available_at": self.available_at[position].isoformat(),
            "value": self.value[position],
        }


def observations_behind(
    connection: psycopg.Connection[Any],
    bar: Bar,
    features: Mapping[str, Any] | None,
    score: Mapping[str, Any] | None,
    spec: AggregationSpec,
) -> list[Json]:
    """Which rows of which series the stored features and the stored score of a bar were made of.

    Parameters
    ----------
    features, score : mapping or None
        As `lineage.trace` found them; None where nothing is stored.
    spec : AggregationSpec
        By which texts count for a sentiment.

    Returns
    -------
    list of dict
        One per feature and input: who read it (`read_by`, `name`, `made`), `series`, `coin`, the number of `rows`, the
        `oldest` and the `newest` of them as they were known then, and what the newest was `made_of`.
    """
    readers = list(_readers(bar, features, score))
    loaded = _load(connection, bar, readers)
    behind: dict[tuple[str, ...], Json | None] = {}
    found: list[Json] = []
    for entry, series, coin, choose in readers:
        known = loaded.get((series, coin))
        rows = [] if known is None else choose(known)
        newest = known.row(rows[-1]) if known is not None and rows else None
        made_of = None
        if newest is not None:
            key = (series, coin, newest["source"], newest["ts"], newest["available_at"])
            if key not in behind:
                behind[key] = made_of_rows(connection, series, coin, newest, spec)
            made_of = behind[key]
        found.append(
            {
                **entry,
                "series": series,
                "coin": coin,
                "rows": len(rows),
                "oldest": known.row(rows[0]) if known is not None and rows else None,
                "newest": newest,
                "made_of": made_of,
            }
        )
    return found


def made_of_rows(
    connection: psycopg.Connection[Any], series: str, coin: str, row: Mapping[str, Any], spec: AggregationSpec
) -> Json | None:
    """What one observation was derived from, from the rows that were known when it was; None for a published one.

    Parameters
    ----------
    row : mapping
        source, ts and available_at of the observation.
    """
    ts = datetime.fromisoformat(row["ts"])
    simulated = row["source"] == SIMULATED
    arguments = {
        "coin": coin,
        "source": row["source"],
        "total": SIMULATED if simulated else ALL,
        "ts": ts,
        "available_at": datetime.fromisoformat(row["available_at"]),
        "ends": ts + SERIES[series].period if series in SERIES else ts,
        "simulated": SIMULATED,
        "is_simulated": simulated,
        "stablecoins": sorted(STABLECOINS),
        "horizon": timedelta(hours=spec.horizon_hours),
        "half_life": spec.half_life_hours,
        "prior": spec.prior_mentions,
        "limit": MOST_ROWS,
    }
    for query in _BEHIND.get(series, ()):
        with connection.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query.encode(), arguments).fetchone()
        if found is not None and found["count"]:
            return found
    return None


# Funding rates are read like a series of the symbol that they are settled for.
_OBSERVED = """
(select * from observations where (source = 'simulated') = (%(exchange)s = 'simulated')
 union all
 select 'funding_rate', i.symbol, i.exchange, f.ts, f.available_at, f.rate
 from funding_rates f join instruments i using (instrument_id) where i.exchange = %(exchange)s) observed
"""


def versions(connection: psycopg.Connection[Any], exchange: str, series: str, coin: str, ts: datetime) -> list[Json]:
    """Every version of what a series says of one time, as JSON."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select source, ts, available_at, value from {_OBSERVED} where series = %(series)s and coin = %(coin)s "
            "and ts = %(ts)s order by available_at, source".encode(),
            {"exchange": exchange, "series": series, "coin": coin, "ts": ts},
        ).fetchall()
    return [{n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()} for row in rows]


def superseded_at(
    connection: psycopg.Connection[Any], exchange: str, series: str, coin: str, ts: datetime
) -> datetime | None:
    """When something became known that speaks of a time after `ts`."""
    row = connection.execute(
        f"select min(available_at) from {_OBSERVED} where series = %(series)s and coin = %(coin)s "
        "and ts > %(ts)s".encode(),
        {"exchange": exchange, "series": series, "coin": coin, "ts": ts},
    ).fetchone()
    return row[0] if row else None


def nearest_times(
    connection: psycopg.Connection[Any], exchange: str, series: str, coin: str, ts: datetime
) -> list[datetime]:
    """Up to three times of which the series speaks, the nearest to `ts` first."""
    rows = connection.execute(
        f"select distinct ts, abs(extract(epoch from ts - %(ts)s)) from {_OBSERVED} where series = %(series)s "
        "and coin = %(coin)s order by 2 limit 3".encode(),
        {"exchange": exchange, "series": series, "coin": coin, "ts": ts},
    )
    return [at for at, _ in rows]


def coins_of(connection: psycopg.Connection[Any], exchange: str, series: str) -> list[str]:
    """Coins that the series is stored of; symbols for funding."""
    rows = connection.execute(
        f"select distinct coin from {_OBSERVED} where series = %(series)s order by coin".encode(),
        {"exchange": exchange, "series": series},
    )
    return [coin for (coin,) in rows]


_TEXT = """
select jsonb_build_object(
    'text', to_jsonb(t) - 'fingerprint',
    'scores', coalesce((select jsonb_agg(to_jsonb(s) - 'text_id' order by s.scorer) from text_scores s
                        where s.text_id = coalesce(t.duplicate_of, t.text_id)), '[]'),
    'sentiment', coalesce((select jsonb_agg(to_jsonb(made) order by made.coin) from (
        select v.coin, v.source, min(v.ts) as first, max(v.ts) as last, count(*) as values
        from text_mentions m
        join text_scores s on s.text_id = m.text_id
        join sentiment v on v.coin = m.coin and s.scorer = any(string_to_array(v.scorer, ' + '))
        where m.text_id = t.text_id and t.duplicate_of is null
          and v.source = case t.source when 'simulated' then 'simulated' else 'ALL' end
          and v.ts >= greatest(t.published_at, s.available_at) and v.ts <= t.published_at + %(horizon)s
        group by v.coin, v.source) made), '[]')
)
from texts t where t.text_id = %(id)s
"""


def of_text(connection: psycopg.Connection[Any], text_id: int, spec: AggregationSpec) -> Json | None:
    """A text, its scores, and the sentiment of each coin that it counts in; None where there is no such text."""
    arguments = {"id": text_id, "horizon": timedelta(hours=spec.horizon_hours)}
    row = connection.execute(_TEXT.encode(), arguments).fetchone()
    return None if row is None else row[0]


_Reader: TypeAlias = tuple[Json, str, str, Callable[[_Series], list[int]]]
"""Who read a series, the series and its coin, and which of its rows that were."""


def _readers(bar: Bar, features: Mapping[str, Any] | None, score: Mapping[str, Any] | None) -> Iterator[_Reader]:
    """Who read which series of which coin, and the choice of its rows."""
    # Compiled code and TA-Lib are loaded where they are needed.
    from trading_pipelines.domain import lineage
    from trading_pipelines.domain.features.observations import OBSERVED
    from trading_pipelines.domain.scoring.inputs import INPUTS, Scope

    close = _naive(bar.closes_at)
    values: Json = {} if features is None else features["values"]
    for feature in OBSERVED:
        if feature.name in values:
            entry = {"read_by": "feature", "name": feature.name, "made": values[feature.name], "is": feature.text}
            coin = MARKET if feature.market else bar.coin

            def of_feature(known: _Series, feature: Any = feature) -> list[int]:
                return lineage.rows_of_feature(feature, close, _observed(known)).tolist()

            yield entry, feature.series, coin, of_feature
    if lineage.FUNDING in values:
        name = lineage.FUNDING
        entry = {"read_by": "feature", "name": name, "made": values[name], "is": "Newest settled funding rate"}
        yield entry, name, bar.symbol, lambda known: lineage.rows_of_funding(close, _observed(known).ts).tolist()
    if score is None:
        return
    inputs: Json = score["inputs"] or {}
    settling = timedelta(seconds=score["spec"]["settling_seconds"])
    for each in INPUTS:
        stored = inputs.get(each.name)
        if stored is None or each.mapping is None:
            continue
        entry = {"read_by": "score", "name": each.name, "made": stored["mapped"], "is": each.meaning}
        series, coin = each.name, MARKET if each.scope is Scope.MARKET else bar.coin
        if each.scope is Scope.INSTRUMENT:
            series, coin = lineage.FUNDING, bar.symbol

        def of_input(known: _Series, each: Any = each) -> list[int]:
            return lineage.rows_of_input(each, close, settling, _observed(known)).tolist()

        yield entry, series, coin, of_input


def _load(connection: psycopg.Connection[Any], bar: Bar, readers: Sequence[_Reader]) -> dict[tuple[str, str], _Series]:
    """The versions of all series that were known at the close, as far back as one of the readers looks."""
    from trading_pipelines.domain.lineage import FUNDING, looks_back

    since = {(series, coin): bar.closes_at - looks_back(series) - _LATE for _, series, coin, _ in readers}
    rows = connection.execute(
        _READ.encode(),
        {
            "series": [series for series, _ in since],
            "coin": [coin for _, coin in since],
            "since": list(since.values()),
            "until": bar.closes_at,
            "simulated": SIMULATED,
            "is_simulated": bar.is_simulated,
            "symbol": bar.symbol,
            "exchange": bar.exchange,
            "instrument": bar.instrument_id,
            "funding_since": bar.closes_at - looks_back(FUNDING),
        },
    ).fetchall()
    grouped: defaultdict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for series, coin, *row in rows:
        grouped[series, coin].append(tuple(row))
    return {key: _Series(*zip(*own, strict=True)) for key, own in grouped.items()}


def _observed(series: _Series) -> "Observed":
    from trading_pipelines.domain.features.observations import Observed

    known_at, ts = (np.array([_naive(at) for at in column]) for column in (series.available_at, series.ts))
    return Observed(known_at, ts, np.array(series.value, dtype=np.float64))


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
