"""A simulated exchange in PostgreSQL, with accounts of its own, behind the port that real exchanges have."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import (
    BalanceReport,
    BracketRequest,
    FillReport,
    FundingReport,
    OrderReport,
    OrderRequest,
    PositionReport,
)


@dataclass(frozen=True)
class FundingEvent:
    """Funding due at `ts`; `mark` is None where no mark price is stored."""

    ts: datetime
    rate: float
    mark: float | None = None


@dataclass(frozen=True)
class MarketEvent:
    """What one market did between two moments; a tick is an event with four equal prices and equal times.

    Attributes
    ----------
    ts_open, ts_close : datetime
        UTC; a bar covers [ts_open, ts_close).
    funding : tuple of FundingEvent
        Funding due in (previous open, this open].
    """

    instrument_id: int
    ts_open: datetime
    ts_close: datetime
    open: float
    high: float
    low: float
    close: float
    funding: tuple[FundingEvent, ...] = ()

    @classmethod
    def tick(
        cls, instrument_id: int, ts: datetime, price: float, funding: tuple[FundingEvent, ...] = ()
    ) -> "MarketEvent":
        """One traded price."""
        return cls(instrument_id, ts, ts, price, price, price, price, funding)


class PaperExchange:
    """One account; every operation is one transaction over `connection`, which must be idle between calls."""

    def __init__(
        self, connection: psycopg.Connection[Any], session_id: UUID, params: ExecutionParams
    ) -> None:
        self._connection = connection
        self._session_id = session_id
        self._params = params

    def advance(self, events: Sequence[MarketEvent]) -> int:
        """Let the market move; how many fills and funding payments that made."""
        raise NotImplementedError

    def advanced_to(self) -> dict[int, datetime]:
        """Up to when each market has been applied, by instrument id; missed bars start there."""
        raise NotImplementedError

    def create_bracket(self, request: BracketRequest) -> tuple[OrderReport, ...]:
        raise NotImplementedError

    def create_order(self, request: OrderRequest) -> OrderReport:
        raise NotImplementedError

    def replace_order(self, client_order_id: str, request: OrderRequest) -> OrderReport:
        raise NotImplementedError

    def cancel_order(self, client_order_id: str) -> OrderReport:
        raise NotImplementedError

    def fetch_order(self, client_order_id: str) -> OrderReport | None:
        raise NotImplementedError

    def fetch_open_orders(self) -> Sequence[OrderReport]:
        raise NotImplementedError

    def fetch_positions(self) -> Sequence[PositionReport]:
        raise NotImplementedError

    def fetch_fills(self, since_sequence: int) -> Sequence[FillReport]:
        raise NotImplementedError

    def fetch_funding(self, since_sequence: int) -> Sequence[FundingReport]:
        raise NotImplementedError

    def fetch_balance(self) -> BalanceReport:
        raise NotImplementedError
