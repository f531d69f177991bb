"""What sums of transactions say: hourly net flow, inflow of stablecoins, the daily whale score.

Belongs here: values of a period and every later version of them, as transactions became known. Does not belong here:
single transactions (`domain.onchain.transactions`) and reading stored ones (`application.alternative.flows`).

A value of a period is known when the period has ended, from the transactions that were known then. A transaction that
becomes known later makes a further version. So what was known at any time can be computed again from the transactions.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from trading_pipelines.domain.alternative.series import MARKET, Observation
from trading_pipelines.domain.onchain.transactions import STABLECOINS, FlowDirection

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class WhaleScoreSpec(BaseModel, frozen=True, extra="forbid"):
    """How a day of large transactions becomes a score."""

    norm_days: int = Field(default=14, ge=1)
    """Days before the one in question whose flow is the usual one."""
    least_usd: float = Field(default=5_000_000.0, gt=0)
    """Usual flow of a coin at the least: on a quiet coin one transaction makes no extreme score."""


@dataclass(frozen=True)
class Flow:
    """One amount to exchanges (positive) or from them (negative), USD.

    Attributes
    ----------
    ts, known_at : datetime
        When it happened and from when on it could be known, UTC.
    """

    coin: str
    ts: datetime
    known_at: datetime
    usd: float


def signed_flow(coin: str, direction: FlowDirection, ts: datetime, known_at: datetime, amount_usd: float) -> Flow:
    """A transaction as a flow; a transfer is none and counts zero."""
    sign = {FlowDirection.INFLOW: 1.0, FlowDirection.OUTFLOW: -1.0, FlowDirection.TRANSFER: 0.0}[direction]
    return Flow(coin, ts, known_at, sign * amount_usd)


def hourly_netflow(
    flows: Sequence[Flow], coins: Sequence[str], source: str, start: datetime, end: datetime
) -> list[Observation]:
    """Coins to exchanges minus coins from them, per coin and whole hour of [start, end), in USD.

    An hour without a transaction has the value zero: the source was looking and there was none.
    """
    return [
        version
        for coin in coins
        for version in _versions(
            "exchange_netflow_usd", coin, source, [f for f in flows if f.coin == coin], start, end, HOUR, _sum
        )
    ]


def stablecoin_inflow(flows: Sequence[Flow], source: str, start: datetime, end: datetime) -> list[Observation]:
    """Stablecoins that went to exchanges, per whole hour of [start, end), in USD; what left them is not deducted."""
    arrived = [f for f in flows if f.coin in STABLECOINS and f.usd > 0]
    return list(_versions("stablecoin_inflow_usd", MARKET, source, arrived, start, end, HOUR, _sum))


def whale_scores(
    flows: Sequence[Flow], coins: Sequence[str], source: str, start: datetime, end: datetime, spec: WhaleScoreSpec
) -> list[Observation]:
    """Whether large holders take coins from exchanges (+1) or bring them there (-1), per whole UTC day of [start, end).

    Parameters
    ----------
    flows : sequence of Flow
        From `spec.norm_days` before `start` on.

    Notes
    -----
    With what left exchanges *O* and what came to them *I* on the day, and *G* the mean of *O + I* of the
    `norm_days` days before (as known at the time, at least `least_usd`)::

        score = (O - I) / (O + I + G)

    It lies strictly between -1 and 1, is zero without transactions, and a day of the usual size whose transactions
    all leave exchanges has 1/2.
    """
    found: list[Observation] = []
    for coin in coins:
        own = [f for f in flows if f.coin == coin and f.usd]

        def score(known: Sequence[Flow], day: datetime) -> float:
            usual = sum(abs(f.usd) for f in known if f.ts < day) / spec.norm_days
            today = [f.usd for f in known if f.ts >= day]
            gross = sum(abs(usd) for usd in today)
            return -sum(today) / (gross + max(usual, spec.least_usd))

        lookback = spec.norm_days * DAY
        found.extend(_versions("whale_score", coin, source, own, start, end, DAY, score, lookback))
    return found


def _sum(known: Sequence[Flow], _: datetime) -> float:
    return math.fsum(f.usd for f in known)


def _versions(
    series: str,
    coin: str,
    source: str,
    flows: Sequence[Flow],
    start: datetime,
    end: datetime,
    step: timedelta,
    value: Callable[[Sequence[Flow], datetime], float],
    lookback: timedelta = timedelta(0),
) -> Iterator[Observation]:
    """The value of each whole period at its end, and again whenever a flow of it became known later."""
    ordered = sorted(flows, key=lambda f: (f.ts, f.known_at, f.usd))
    times = [f.ts for f in ordered]
    period = start
    while period + step <= end:
        ended = period + step
        inside = ordered[bisect_left(times, period - lookback) : bisect_left(times, ended)]
        moments = sorted({ended} | {f.known_at for f in inside if f.known_at > ended})
        last: float | None = None
        for moment in moments:
            current = value([f for f in inside if f.known_at <= moment], period)
            if current != last:
                yield Observation(series, coin, source, period, moment, current)
            last = current
        period = ended
