"""Pairs that appear on the simulated market and leave it again, by a calendar that follows from its seed.

Belongs here: names and dates. Does not belong here: their prices (`domain.simulation.market`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.simulation.noise import stream, uniform
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

NAMES = tuple(
    f"{base}USDT"
    for base in (
        "AURUM", "BRISK", "CINDER", "DELTIC", "EMBER", "FJORD", "GLYPH", "HELIX", "IONIX", "JASPER", "KRILL", "LUMEN",
        "MERIT", "NIMBUS", "OCHRE", "PRISM", "QUILL", "RIVET", "SABLE", "TUNDRA", "UMBRA", "VECTOR", "WILLOW", "ZEPHYR",
    )
)  # fmt: skip
"""Invented, so that no real coin is said to have done what the simulated one does."""


@dataclass(frozen=True)
class SimulatedListing:
    """A pair's time on the market: [listed_at, delisted_at)."""

    symbol: str
    listed_at: datetime
    delisted_at: datetime

    def trades_at(self, moment: datetime) -> bool:
        """Whether it trades."""
        return self.listed_at <= moment < self.delisted_at


def listings_until(spec: SimulatedMarketSpec, now: datetime) -> list[SimulatedListing]:
    """The newest time on the market of every pair that was listed by `now` within the history, by symbol.

    Every `listing_every_days` one name is listed, at a full five minutes of that day; the names follow one another.
    """
    if spec.listing_every_days == 0:
        return []
    step = timedelta(days=spec.listing_every_days)
    first, last = (now - timedelta(days=spec.history_days) - EPOCH) // step, (now - EPOCH) // step
    found: dict[str, SimulatedListing] = {}
    for number in range(first + 1, last + 1):
        slot = int(288 * uniform(stream(spec.seed, "listing"), np.array([number]))[0])
        listed_at = EPOCH + number * step + slot * timedelta(minutes=5)
        symbol = NAMES[number % len(NAMES)]
        if listed_at <= now and symbol not in spec.symbols:
            life = min(timedelta(days=spec.listing_days), (len(NAMES) - 1) * step)
            found[symbol] = SimulatedListing(symbol, listed_at, listed_at + life)
    return [found[symbol] for symbol in sorted(found)]
