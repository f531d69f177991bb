"""What happens to open positions at the close of a bar: stops move, positions and equity are marked, exits are sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort
from trading_pipelines.domain.execution.session import TradingSession


@dataclass(frozen=True)
class BarClose:
    """Close of one bar of the signal timeframe; `ts` is its open time, `closed_at` the moment of the close."""

    ts: datetime
    closed_at: datetime
    close: float
    atr: float


@dataclass(frozen=True)
class ExitDecision:
    """Close the position of an instrument at the next price."""

    instrument_id: int
    reason: str


@dataclass(frozen=True)
class ManagementReport:
    """What was done at one close."""

    stops_moved: int = 0
    exits: tuple[UUID, ...] = ()
    equity: float = 0.0


def manage_at_close(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    bars: Mapping[int, BarClose],
    as_of: datetime,
    *,
    exits: Sequence[ExitDecision] = (),
) -> ManagementReport:
    """Apply rules 7 and 8 of the execution model at a close; `synchronise` has run before."""
    raise NotImplementedError


def mark_positions(
    connection: psycopg.Connection[Any], session: TradingSession, prices: Mapping[int, float], as_of: datetime
) -> None:
    """Mark the open positions at current prices."""
    raise NotImplementedError
