"""How the simulated exchange treats orders beyond the rules of the execution model.

Belongs here: its settings, and the numbers that follow from them for one order. Does not belong here: fees, slippage
as the execution model has it, leverage of our own trades (`domain.engine.params`).
"""

import hashlib
from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel, Field, model_validator

from trading_pipelines.domain.engine.params import ExecutionParams


class VenueParams(BaseModel, frozen=True, extra="forbid"):
    """Liquidity, latency, slippage and leverage of the paper exchange; the defaults are the execution model's."""

    liquidity_share: float | None = Field(default=None, gt=0, le=1)
    """Share of a bar's or tick's volume that one market's orders may take; None fills whatever is asked."""
    latency_ms: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest time until an order is in force; which one is drawn by the order's id."""
    slippage_bps: tuple[float, float] | None = None
    """Smallest and largest slippage, drawn by the order's id, for example [1, 10]; None: the execution model's."""
    max_leverage: float = Field(default=200.0, ge=1, le=200)
    """For markets whose venue states no limit of its own."""

    @model_validator(mode="after")
    def _check_ranges(self) -> "VenueParams":
        if not 0 <= self.latency_ms[0] <= self.latency_ms[1] <= 60_000:
            raise ValueError("latency_ms must be two ascending numbers between 0 and 60000, for example [50, 300]")
        if self.slippage_bps is not None and not 0 <= self.slippage_bps[0] <= self.slippage_bps[1] <= 100:
            raise ValueError("slippage_bps must be two ascending numbers between 0 and 100, for example [1, 10]")
        return self

    def latency(self, client_order_id: str) -> timedelta:
        """Time until an order is in force; the same id always waits for the same time."""
        low, high = self.latency_ms
        if high == 0.0:
            return timedelta(0)
        return timedelta(milliseconds=low + (high - low) * _draw("latency", client_order_id))

    def costs(self, client_order_id: str, params: ExecutionParams) -> ExecutionParams:
        """The execution model's numbers with the slippage of one order; the same id always slips by the same."""
        if self.slippage_bps is None:
            return params
        low, high = self.slippage_bps
        rate = (low + (high - low) * _draw("slippage", client_order_id)) / 10_000
        return params.model_copy(update={"slippage_rate": rate})

    def liquidity(self, volume: float | None) -> Decimal | None:
        """Quantity that may be filled while so much was traded; None without a limit or where volume is not known."""
        if self.liquidity_share is None or volume is None:
            return None
        return Decimal(repr(self.liquidity_share * volume))


def _draw(what: str, client_order_id: str) -> float:
    """A number in [0, 1) that follows from an order's id alone."""
    digest = hashlib.sha256(f"{what}:{client_order_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
