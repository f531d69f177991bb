"""The order path: from an active signal to one bracket on the exchange, and from its fills to positions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort
from trading_pipelines.application.kill_switch import KillSwitch
from trading_pipelines.domain.execution.session import TradingSession


@dataclass(frozen=True)
class ExecutionReport:
    """What became of the signals that were looked at; `blocked` names why none was, if so."""

    executed: tuple[UUID, ...] = ()
    rejected: tuple[UUID, ...] = ()
    cancelled: tuple[UUID, ...] = ()
    unresolved: tuple[UUID, ...] = ()
    waiting: tuple[UUID, ...] = ()
    blocked: str | None = None


@dataclass(frozen=True)
class SynchronisationReport:
    """What was new on the exchange."""

    fills: int = 0
    opened: tuple[UUID, ...] = ()
    closed: tuple[UUID, ...] = ()


def execute_signals(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    as_of: datetime,
    *,
    quotes: Mapping[int, float],
    kill: KillSwitch | None,
    run_id: str | None = None,
    signal_ids: Collection[UUID] | None = None,
) -> ExecutionReport:
    """Execute the active, still valid signals, the most confident first.

    `quotes` are current prices by instrument id; `kill` is None for replays only.
    """
    raise NotImplementedError


def resolve_pending(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> int:
    """Find out what became of orders whose attempt ended in the middle; how many are still unresolved."""
    raise NotImplementedError


def synchronise(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> SynchronisationReport:
    """Take over what happened on the exchange since the last call."""
    raise NotImplementedError
