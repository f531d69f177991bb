"""A trading session: whose account, which symbols, under which rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy


class SessionMode(StrEnum):
    """Paper follows the wall clock, replay its own clock over stored candles."""

    PAPER = "paper"
    REPLAY = "replay"


class SessionStatus(StrEnum):
    """Only a running session opens positions; a paused one still manages the open ones."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class TradingSession:
    """One account and the rules it trades by; the rules are frozen when the session is created.

    Attributes
    ----------
    exchange : str
        Exchange key whose candles are traded.
    symbols : tuple of str
        Symbols that may give signals.
    timeframe : str
        Signal timeframe.
    start_capital : Decimal
        In quote currency (USDT).
    strategies : tuple of str
        In the order of precedence: of two that propose the same symbol at one close the first gets the signal.
    strategy_params : mapping
        Parameters by name of the strategy; what is not named has its default.
    direction : Direction
        Sides that may be opened.
    venue : VenueParams
        How the simulated exchange treats its orders.
    begins_at : datetime or None
        The first bar that is decided closes after this; None for no limit.
    """

    session_id: UUID
    name: str
    mode: SessionMode
    exchange: str
    symbols: tuple[str, ...]
    timeframe: str
    start_capital: Decimal
    policy: SignalPolicy
    execution: ExecutionParams
    limits: RiskLimits
    strategies: tuple[str, ...] = ("model_signals",)
    strategy_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    direction: Direction = Direction.BOTH
    venue: VenueParams = field(default_factory=VenueParams)
    status: SessionStatus = SessionStatus.RUNNING
    begins_at: datetime | None = None
