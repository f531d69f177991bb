"""Lineage forward from what is known besides prices: from an observation or a text to the trades that it was part of.

Belongs here: which bars could read a row from outside, by the times at which it was known and when something newer
took its place. Does not belong here: the way back from a trade (`application.audit.lineage`), the SQL
(`store.read_models`), the rendering (`cli.explain`).
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from trading_pipelines.application.audit.lineage import MOST_TRADES, Explanation, needs_of
from trading_pipelines.domain.alternative.series import MARKET, coin_of
from trading_pipelines.domain.features.observations import MARGIN
from trading_pipelines.domain.lineage import DATED, reach_in_features, reach_in_scores
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.sentiment.aggregate import AggregationSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.read_models import lineage, source_rows
from trading_pipelines.store.read_models.lineage import Reader, Role
from trading_pipelines.store.repositories import instruments

Connection = psycopg.Connection[Any]
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class _Value:
    """Values of one series that speak of [first, last], as long as they count."""

    series: str
    coin: str
    first: datetime
    last: datetime
    known_since: datetime


def explain_observation(
    connection: Connection, exchange: str, series: str, coin: str, ts: datetime, texts: AggregationSpec
) -> Explanation:
    """Name everything that read what a series says of one time: features, scores, decisions, signals and results.

    Parameters
    ----------
    ts : datetime
        The time that the value speaks of; all of its versions count.
    texts : AggregationSpec
        By which texts make a sentiment.

    Raises
    ------
    UserError
        There is no such series, or it says nothing of that coin or time; the message names what is near.
    """
    if series not in DATED:
        near = difflib.get_close_matches(series, DATED, 3, 0.4) or sorted(DATED)
        raise UserError(f"there is no series {series!r} (near: {', '.join(near)})")
    found = source_rows.versions(connection, exchange, series, coin, ts)
    if not found:
        raise _not_stored(connection, exchange, series, coin, ts)
    known_since = min(datetime.fromisoformat(row["available_at"]) for row in found)
    readers = list(_readers(connection, exchange, [_Value(series, coin, ts, ts, known_since)]))
    content = {
        "series": {"name": series, "unit": DATED[series].unit, "is": DATED[series].meaning, "coin": coin},
        "versions": found,
        "made_of": source_rows.made_of_rows(connection, series, coin, found[-1], texts),
        **lineage.read_forward(connection, exchange, readers, MOST_TRADES),
    }
    return Explanation("observation", f"{series}:{coin}:{ts.isoformat()}", content)


def explain_text(connection: Connection, exchange: str, text_id: str, texts: AggregationSpec) -> Explanation:
    """Name what a news item or a post was part of: the sentiment of its coins, and what read that.

    Raises
    ------
    UserError
        No text has that number.
    """
    content = source_rows.of_text(connection, int(text_id), texts) if text_id.isdecimal() else None
    if content is None:
        raise UserError(f"no text has the number {text_id!r}; `trading explain ID` shows the numbers of texts")
    values = [
        _Value("sentiment", made["coin"], first, last, first)
        for made in content["sentiment"]
        for first, last in [(datetime.fromisoformat(made["first"]), datetime.fromisoformat(made["last"]))]
    ]
    readers = list(_readers(connection, exchange, values))
    content |= lineage.read_forward(connection, exchange, readers, MOST_TRADES)
    return Explanation("text", text_id, content)


def _not_stored(connection: Connection, exchange: str, series: str, coin: str, ts: datetime) -> UserError:
    near = source_rows.nearest_times(connection, exchange, series, coin, ts)
    if near:
        told = ", ".join(f"{at:%Y-%m-%dT%H:%M}" for at in near)
        return UserError(f"{series} of {coin} says nothing of {ts:%Y-%m-%d %H:%M} (near: {told})")
    coins = source_rows.coins_of(connection, exchange, series)
    return UserError(f"{series} of {coin} is not stored (stored of: {', '.join(coins) or 'nothing'})")


def _readers(connection: Connection, exchange: str, values: Sequence[_Value]) -> Iterator[Reader]:
    """Bars whose features, scores or decisions could read the values."""
    used = lineage.strategies_in_use(connection, exchange)
    for value in values:
        owners, market = _owners(connection, exchange, value.coin), value.coin == MARKET
        features = _span(connection, exchange, value, reach_in_features(value.series, market=market))
        scores = _span(connection, exchange, value, reach_in_scores(value.series, market=market))
        for frame in dict.fromkeys(frame for _, _, frame in used):
            if features is not None and frame is not Timeframe.M1:
                yield Reader(Role.FEATURES, None, owners, frame, *_bars(features, frame))
            if scores is not None:
                yield Reader(Role.SCORES, None, owners, frame, *_bars(scores, frame))
        for strategy, params, frame in used:
            needs = needs_of(strategy, params)
            through_features = needs is None or bool(needs.features) or needs.predictions
            # The gates of every strategy look at the score.
            spans = [span for span in (features if through_features else None, scores) if span is not None]
            if spans:
                read = min(first for first, _ in spans), max(last for _, last in spans)
                yield Reader(Role.DECISIONS, strategy, owners, frame, *_bars(read, frame))


def _owners(connection: Connection, exchange: str, coin: str) -> list[int] | None:
    """Instruments for which the values of a coin, or of a symbol, are read; None for all."""
    if coin == MARKET:
        return None
    stored = instruments.by_symbol(connection, exchange).items()
    return [row.instrument_id for symbol, row in stored if coin in (symbol, coin_of(row.instrument.base))]


def _span(
    connection: Connection, exchange: str, value: _Value, reach: timedelta | None
) -> tuple[datetime, datetime] | None:
    """First and last instant at which a value could be read: until something so much newer was known, or too old."""
    if reach is None:
        return None
    series = DATED[value.series]
    late = max(series.period + series.publication_lag + series.max_age, value.known_since - value.first)
    too_old = value.last + reach + late + series.max_age
    newer = source_rows.superseded_at(connection, exchange, value.series, value.coin, value.last + reach)
    return value.known_since, min(newer or too_old, too_old) + MARGIN


def _bars(closes: tuple[datetime, datetime], frame: Timeframe) -> tuple[datetime, datetime]:
    """Open times of the first and the last bar that closes in a span."""
    first, last = closes
    return frame.floor(first - _INSTANT), frame.floor(last) - frame.delta
