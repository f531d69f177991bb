"""Implied distributions, the lean of prediction markets, alerts of moves, and what became of markets that are gone.

Belongs here: loading odds, calling the domain and storing what it says. Does not belong here: collecting odds
(`application.alternative.alternative_data`) and how a distribution is implied (`domain.prediction_markets.ladder`).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import numpy as np
import psycopg
import structlog

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.comparison import Comparison, Difference
from trading_pipelines.domain.alternative.series import SIMULATED, Observation, coin_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.prediction_markets.ladder import Implied, Rung, bias, imply
from trading_pipelines.domain.prediction_markets.markets import (
    MarketKind,
    OddsPolicy,
    PredictionMarket,
    is_liquid,
)
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import candles, events, instruments, observations, odds, source_states

Connection = psycopg.Connection[Any]
_PRICE_AGE = timedelta(hours=6)
_MOST_LOOKED_UP = 200
_SETTLED_WITHIN = timedelta(days=14)
"""How long a closed market without an outcome is asked about."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ladder:
    """The distribution of a coin at an expiry as it was implied at `ts`."""

    source: str
    coin: str
    expires_at: datetime
    ts: datetime
    spot: float
    implied: Implied

    def row(self) -> dict[str, Any]:
        """As it is stored."""
        made = self.implied
        q10, q25, median, q75, q90 = made.quantiles
        return {
            "source": self.source,
            "coin": self.coin,
            "expires_at": self.expires_at,
            "method": made.method,
            "ts": self.ts,
            "available_at": self.ts,
            "spot": self.spot,
            "rungs": made.rungs,
            "repaired": made.repaired,
            "weight_usd": made.weight_usd,
            "above_spot": made.above_spot,
            "q10": q10,
            "q25": q25,
            "median": median,
            "q75": q75,
            "q90": q90,
            "strikes": list(made.strikes),
            "survival": list(made.survival),
        }


@dataclass(frozen=True)
class OddsReport:
    """What was implied: distributions and leans that were new."""

    ladders: int
    biases: int


@runtime_checkable
class LooksUp(Protocol):
    """A source that can be asked about single markets."""

    name: str

    def look_up(self, market_ids: Sequence[str], now: datetime) -> Delivery[PredictionMarket]:
        """What it says of markets that it does not list any more; of some it says nothing."""
        ...


def update_odds(connection: Connection, settings: Settings, start: datetime, end: datetime) -> OddsReport:
    """Imply distributions of the odds that became known in [start, end], as the settings ask for, and commit."""
    return imply_distributions(
        connection,
        settings.exchange,
        Timeframe(settings.signal_timeframe),
        start,
        end,
        settings.alternative.polymarket.policy,
        simulated=settings.exchange == SIMULATED_EXCHANGE,
    )


def imply_distributions(
    connection: Connection,
    exchange: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    policy: OddsPolicy,
    *,
    simulated: bool,
) -> OddsReport:
    """Store what the odds that became known in [start, end] imply, at each time that some did, and commit.

    Parameters
    ----------
    timeframe : Timeframe
        Candles whose last close is the price of the moment.
    """
    ladders = list(compute_ladders(connection, exchange, timeframe, start, end, policy, simulated=simulated))
    rows = [ladder.row() for ladder in ladders]
    new = odds.add_implied(connection, rows)
    leans = observations.add(connection, list(compute_biases(ladders, policy)))
    connection.commit()
    return OddsReport(new, leans)


def check_ladders(connection: Connection, settings: Settings, start: datetime, end: datetime) -> Comparison:
    """Imply stored distributions of [start, end) again from the odds that were known at their time."""
    made = compute_ladders(
        connection,
        settings.exchange,
        Timeframe(settings.signal_timeframe),
        start,
        end,
        settings.alternative.polymarket.policy,
        simulated=settings.exchange == SIMULATED_EXCHANGE,
    )
    expected = {(m.source, m.coin, m.expires_at, m.implied.method.value, m.ts): m.implied for m in made}
    names = [SIMULATED if settings.exchange == SIMULATED_EXCHANGE else "polymarket"]
    stored = odds.read_implied(connection, names, start, end)
    again = [expected.get((r["source"], r["coin"], r["expires_at"], r["method"], r["ts"])) for r in stored]
    found = [_difference(row, implied) for row, implied in zip(stored, again, strict=True)]
    return Comparison(len(stored), tuple(difference for difference in found if difference is not None))


def _difference(row: dict[str, Any], implied: Implied | None) -> Difference | None:
    """The first probability of a stored distribution that is another one."""
    known: Sequence[float | None] = [None] * len(row["survival"])
    if implied is not None and tuple(row["strikes"]) == implied.strikes:
        known = implied.survival
    column = f"{row['method']} {row['expires_at']:%Y-%m-%d}"
    for before, after in zip(row["survival"], known, strict=True):
        if after is None or not np.isclose(before, after, atol=1e-9):
            return Difference(row["coin"], column, row["ts"], before, after)
    return None


def compute_ladders(
    connection: Connection,
    exchange: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    policy: OddsPolicy,
    *,
    simulated: bool,
) -> Iterator[Ladder]:
    """What was implied at each time of [start, end] at which odds became known, from what was known then."""
    max_age = timedelta(hours=policy.max_age_hours)
    rows = list(odds.read_ladder_odds(connection, start - max_age, end, simulated=simulated))
    prices = _Prices(connection, exchange, sorted({row["coin"] for row in rows}), timeframe, start, end)
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for moment, group in groupby(rows, key=lambda row: row["available_at"]):
        for row in group:
            key = row["source"], row["market_id"]
            if key not in newest or newest[key]["ts"] <= row["ts"]:
                newest[key] = row
        if moment < start:
            continue
        usable = [row for row in newest.values() if row["ts"] > moment - max_age and _counts(row, moment, policy)]
        yield from _ladders(usable, moment, prices, policy)


def compute_biases(ladders: Sequence[Ladder], policy: OddsPolicy) -> Iterator[Observation]:
    """How far the ladders of each coin leaned at each time."""
    by_moment: defaultdict[tuple[datetime, str, str], list[Implied]] = defaultdict(list)
    for ladder in ladders:
        left = ladder.expires_at - ladder.ts
        if timedelta(hours=policy.bias_from_hours) <= left <= timedelta(days=policy.bias_to_days):
            by_moment[ladder.ts, ladder.coin, ladder.source].append(ladder.implied)
    for (ts, coin, source), implied in sorted(by_moment.items(), key=lambda item: item[0]):
        lean = bias(implied)
        if lean is not None:
            yield Observation("prediction_bias", coin, source, ts, ts, max(-1.0, min(1.0, lean)))


def raise_odds_alerts(connection: Connection, now: datetime, policy: OddsPolicy, *, simulated: bool) -> int:
    """Raise an event for each market whose probability has moved by more than the policy's points; how many."""
    claimed = odds.claim_alerts(connection, now, policy, simulated=simulated)
    for row in claimed:
        events.append(
            connection,
            now,
            "prediction_odds",
            row["coin"],
            f"{row['before']:.0%} -> {row['probability']:.0%} within {policy.alert_hours:g} h: {row['question'][:200]}",
            severity=events.Severity.WARNING,
            payload={k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()},
        )
    connection.commit()
    return len(claimed)


def follow_up(connection: Connection, source: LooksUp, listed_at: datetime) -> tuple[int, int]:
    """Find out what became of open markets that the listing of `listed_at` lacks, and commit.

    One that is closed and has paid nothing yet is asked about again for some days. A source that does not answer is
    asked another time: nothing is known of its markets then.

    Returns
    -------
    tuple of int
        Markets of which the source still tells something, and those that have vanished.
    """
    missing = odds.missing_since(connection, source.name, listed_at, _SETTLED_WITHIN, _MOST_LOOKED_UP)
    if not missing:
        return 0, 0
    try:
        told = source.look_up(missing, listed_at)
    except SourceError as error:
        log.warning(
            "missing markets could not be looked up", source=source.name, missing=len(missing), cause=str(error)
        )
        return 0, 0
    odds.save_markets(connection, told.items)
    refused = [(item.item, item.reason, item.payload) for item in told.refused]
    source_states.quarantine(connection, source.name, listed_at, refused)
    gone = set(missing) - {market.market_id for market in told.items} - {item.item for item in told.refused}
    vanished = odds.mark_vanished(connection, source.name, sorted(gone), listed_at)
    connection.commit()
    return len(told.items), vanished


def _counts(row: dict[str, Any], moment: datetime, policy: OddsPolicy) -> bool:
    is_over = row["expires_at"] <= moment or (row["closed_at"] is not None and row["closed_at"] <= moment)
    return not is_over and is_liquid(row["spread"], row["liquidity_usd"], row["volume_usd"], policy)


def _ladders(
    usable: Sequence[dict[str, Any]], moment: datetime, prices: "_Prices", policy: OddsPolicy
) -> Iterator[Ladder]:
    by_expiry: defaultdict[tuple[str, str, datetime], list[Rung]] = defaultdict(list)
    for row in usable:
        by_expiry[row["source"], row["coin"], row["expires_at"]].append(
            Rung(
                MarketKind(row["kind"]),
                row["strike"],
                row["upper_strike"],
                row["probability"],
                row["liquidity_usd"] or 0.0,
            )
        )
    for (source, coin, expires_at), rungs in sorted(by_expiry.items()):
        spot = prices.at(coin, moment)
        if spot is None or len(rungs) < policy.min_rungs:
            continue
        for implied in imply(rungs, spot, policy.min_rungs):
            yield Ladder(source, coin, expires_at, moment, spot, implied)


class _Prices:
    """Last closes that were known at a time; the shortest contract name of a coin counts, such as BTCUSDT."""

    def __init__(
        self,
        connection: Connection,
        exchange: str,
        coins: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
    ) -> None:
        ids: dict[str, int] = {}
        for _, stored in sorted(instruments.by_symbol(connection, exchange).items(), key=lambda item: len(item[0])):
            if stored.instrument.base == coin_of(stored.instrument.base):
                ids.setdefault(stored.instrument.base, stored.instrument_id)
        self._ids = {coin: ids[coin] for coin in coins if coin in ids}
        self._delta = timeframe.delta
        self._bars = candles.read_many(
            connection, list(self._ids.values()), timeframe, start - _PRICE_AGE, end + timedelta(microseconds=1)
        )

    def at(self, coin: str, moment: datetime) -> float | None:
        """The last close at `moment`; None where there is none of the last hours."""
        bars = self._bars.get(self._ids.get(coin, -1))
        if bars is None:
            return None
        opened = np.asarray(bars["ts"]).astype("datetime64[us]").astype(np.int64)
        latest = int((moment - self._delta).timestamp() * 1e6)
        place = int(np.searchsorted(opened, latest, side="right")) - 1
        if place < 0 or opened[place] < latest - _PRICE_AGE // timedelta(microseconds=1):
            return None
        return float(bars["close"][place])
