"""Net flows, inflow of stablecoins and whale scores from stored transactions, and alerts of very large ones.

Belongs here: loading transactions, calling the domain and storing what it says. Does not belong here: collecting them
(`application.alternative.alternative_data`) and the formulas (`domain.onchain.flows`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from trading_pipelines.application.comparison import Comparison, Difference
from trading_pipelines.application.features.building import to_aware
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation, coin_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.onchain.flows import (
    DAY,
    Flow,
    WhaleScoreSpec,
    hourly_netflow,
    signed_flow,
    stablecoin_inflow,
    whale_scores,
)
from trading_pipelines.domain.onchain.transactions import STABLECOINS, FlowDirection, FlowThresholds
from trading_pipelines.domain.simulation.flows import FLOW_COINS
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import candles, events, flows, instruments, observations, source_states

Connection = psycopg.Connection[Any]
SERIES = ("exchange_netflow_usd", "whale_score", "stablecoin_inflow_usd")
LATE = timedelta(hours=6)
"""How far behind the span of a run hours are derived again, for transactions that became known late."""


@dataclass(frozen=True)
class FlowSources:
    """Which source speaks of what; every coin has one, so that no sum mixes two.

    Attributes
    ----------
    transactions : str
        Source of transactions.
    flows : mapping of str
        Coins, or MARKET for stablecoins, of which a source publishes whole flows; by coin its name.
    """

    transactions: str
    flows: dict[str, str]


@dataclass(frozen=True)
class FlowReport:
    """What was derived: values that were new, by series."""

    new: int
    values: int


def traded_coins(connection: Connection, exchange: str) -> tuple[str, ...]:
    """Coins of the stored instruments of an exchange, stablecoins left out."""
    stored = instruments.by_symbol(connection, exchange).values()
    return tuple(sorted({coin_of(i.instrument.base) for i in stored} - STABLECOINS))


def update_flows(connection: Connection, settings: Settings, start: datetime, end: datetime) -> FlowReport:
    """Derive what the settings ask for of the hours and days in [start, end), and commit.

    Hours before `start` are derived again as far as transactions may have become known late.
    """
    sources = chosen_sources(settings)
    coins = traded_coins(connection, settings.exchange)
    spec = settings.alternative.flows.whale_score
    begin = Timeframe.D1.floor(start - LATE)
    return derive_flows(connection, settings.exchange, sources, coins, begin, end, spec)


def derive_flows(
    connection: Connection,
    exchange: str,
    sources: FlowSources,
    coins: Sequence[str],
    start: datetime,
    end: datetime,
    spec: WhaleScoreSpec,
) -> FlowReport:
    """Store net flows, stablecoin inflow and whale scores of the whole hours and days in [start, end), and commit.

    Everything that was known by `end` is used, and dated by when it was known; a repetition adds nothing.
    """
    derived = compute_flows(connection, exchange, sources, coins, start, end, spec)
    new = observations.add(connection, sorted(derived, key=lambda o: (o.series, o.coin, o.ts, o.available_at)))
    connection.commit()
    return FlowReport(new, len(derived))


def compute_flows(
    connection: Connection,
    exchange: str,
    sources: FlowSources,
    coins: Sequence[str],
    start: datetime,
    end: datetime,
    spec: WhaleScoreSpec,
) -> list[Observation]:
    """What `derive_flows` stores, from the rows that were known by `end`.

    Of a source that does not answer nothing is summed from then on: an hour that nobody has looked at is not one
    without transactions.
    """
    begins = flows.first_transaction(connection, sources.transactions)
    found = _from_flows(connection, exchange, sources, start, end)
    if begins is None:
        return found
    first_hour = Timeframe.H1.floor(max(start, begins) + Timeframe.H1.delta - timedelta(microseconds=1))
    first_day = Timeframe.D1.floor(begins + DAY) if begins > start else Timeframe.D1.floor(start)
    known = _flows(connection, sources.transactions, first_day - spec.norm_days * DAY, end)
    summed = [coin for coin in coins if coin not in sources.flows]
    looked_until = min(end, source_states.last_success(connection, sources.transactions) or end)
    hours = Timeframe.H1.floor(looked_until)
    found += hourly_netflow(known, summed, sources.transactions, first_hour, hours)
    if MARKET not in sources.flows:
        found += stablecoin_inflow(known, sources.transactions, first_hour, hours)
    found += whale_scores(known, coins, sources.transactions, first_day, Timeframe.D1.floor(looked_until), spec)
    return [observation for observation in found if observation.available_at <= end]


def check_flows(connection: Connection, settings: Settings, start: datetime, end: datetime) -> Comparison:
    """Compute the values of the days of [start, end) again from the rows known when they are said to be."""
    begin = Timeframe.D1.floor(start)
    sources = chosen_sources(settings)
    coins = traded_coins(connection, settings.exchange)
    spec = settings.alternative.flows.whale_score
    computed = compute_flows(connection, settings.exchange, sources, coins, begin, end, spec)
    expected = {(o.series, o.coin, o.source, o.ts, o.available_at): o.value for o in computed}
    names = sorted({sources.transactions, *sources.flows.values()})
    stored = observations.read_spoken(connection, SERIES, names, begin, end)
    again = [(o, expected.get((o.series, o.coin, o.source, o.ts, o.available_at))) for o in stored]
    return Comparison(
        len(stored),
        tuple(Difference(o.coin, o.series, o.ts, o.value, known) for o, known in again if not _agree(o.value, known)),
    )


def _agree(stored: float, expected: float | None) -> bool:
    return expected is not None and math.isclose(stored, expected, rel_tol=1e-9, abs_tol=1e-6)


def raise_whale_alerts(connection: Connection, now: datetime, thresholds: FlowThresholds, *, simulated: bool) -> int:
    """Raise one event for each transaction above the limit that was seen lately, and commit; how many."""
    within = timedelta(minutes=thresholds.alert_within_minutes)
    claimed = flows.claim_alerts(connection, now, thresholds.alert_usd, within, simulated=simulated)
    for row in claimed:
        events.append(
            connection,
            now,
            "whale_transaction",
            row["coin"],
            _told(row),
            severity=events.Severity.WARNING,
            payload={k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()},
        )
    connection.commit()
    return len(claimed)


def _told(row: dict[str, Any]) -> str:
    what = {"INFLOW": "to an exchange", "OUTFLOW": "from an exchange", "TRANSFER": "between holders"}[row["direction"]]
    return (
        f"{row['amount_usd'] / 1e6:,.1f} million USD in {row['coin']} went {what}: "
        f"{row['sender'][:60]} -> {row['recipient'][:60]}"
    )


def _flows(connection: Connection, source: str, start: datetime, end: datetime) -> list[Flow]:
    return [
        signed_flow(row["coin"], FlowDirection(row["direction"]), row["ts"], row["available_at"], row["amount_usd"])
        for row in flows.read_transactions(connection, source, start, end, end)
    ]


def _from_flows(
    connection: Connection, exchange: str, sources: FlowSources, start: datetime, end: datetime
) -> list[Observation]:
    """Net flows and stablecoin inflow as sources publish them; coins are turned into USD at the hour's close."""
    found: list[Observation] = []
    for source in sorted(set(sources.flows.values())):
        rows = [
            row
            for row in flows.read_flows(connection, source, start, end, end)
            if sources.flows.get(row["coin"]) == source
        ]
        in_coins = sorted({row["coin"] for row in rows if row["unit"] == "COIN"})
        prices = _hourly_closes(connection, exchange, in_coins, start, end) if in_coins else {}
        for row in rows:
            coin, ts, known = row["coin"], row["ts"], row["available_at"]
            rate = 1.0 if row["unit"] == "USD" or coin == MARKET else prices.get((coin, ts))
            if rate is None:
                continue
            if coin == MARKET:
                found.append(Observation("stablecoin_inflow_usd", coin, source, ts, known, row["inflow"]))
            else:
                net = (row["inflow"] - row["outflow"]) * rate
                found.append(Observation("exchange_netflow_usd", coin, source, ts, known, net))
    return found


def _hourly_closes(
    connection: Connection, exchange: str, coins: Sequence[str], start: datetime, end: datetime
) -> dict[tuple[str, datetime], float]:
    stored = instruments.by_symbol(connection, exchange).values()
    ids = {i.instrument_id: i.instrument.base for i in stored if i.instrument.base in coins}
    loaded = candles.read_many(connection, list(ids), Timeframe.H1, Timeframe.H1.floor(start), end)
    return {
        (ids[number], to_aware(ts)): float(close)
        for number, columns in loaded.items()
        for ts, close in zip(columns["ts"], columns["close"], strict=True)
    }


def chosen_sources(settings: Settings) -> FlowSources:
    """Who speaks of which coin, by the settings."""
    quant, dune = settings.alternative.cryptoquant, settings.alternative.dune
    return flow_sources(
        simulated=settings.exchange == SIMULATED_EXCHANGE,
        cryptoquant=quant.enabled and quant.api_key is not None,
        dune_coins=[coin.upper() for coin in dune.coins] if dune.enabled and dune.api_key is not None else [],
    )


def flow_sources(*, simulated: bool, cryptoquant: bool, dune_coins: Sequence[str]) -> FlowSources:
    """Who speaks of which coin.

    CryptoQuant speaks of BTC, ETH and the stablecoins where its key is set, Dune of the coins that its query is said
    to have, large transactions of all others: they are a part of the flow, and sums of theirs are smaller.
    """
    if simulated:
        return FlowSources(SIMULATED, dict.fromkeys((*FLOW_COINS, MARKET), SIMULATED))
    owners = dict.fromkeys(dune_coins, "dune")
    if cryptoquant:
        owners |= dict.fromkeys(("BTC", "ETH", MARKET), "cryptoquant")
    return FlowSources("whale_alert", owners)
