"""What keeps trading safe: known accounts, differences with the exchange, drills of the kill switch, instructions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import class_row

from trading_pipelines.store.connection import read_frame


@dataclass(frozen=True)
class AccountTruth:
    """Whether entries of a session may be sent as far as the account goes, and why not.

    Attributes
    ----------
    allowed : bool
        The newest comparison found the account known, and is not out of date.
    since : datetime or None
        When that last changed; None before the first comparison.
    """

    allowed: bool
    reason: str
    since: datetime | None
    checked_at: datetime | None
    open_discrepancies: int


_TRUTH = """
select coalesce(t.known and t.valid_until >= now(), false) as allowed,
       case when t.session_id is null then 'the account has not been compared with the exchange yet'
            when not t.known then t.reason
            when t.valid_until < now() then 'the fast service has not compared the account for '
                 || greatest(1, round(extract(epoch from now() - t.checked_at) / 60))::int || ' minutes'
            else '' end as reason,
       t.since, t.checked_at,
       (select count(*)::int from discrepancies d where d.session_id = s.session_id and d.mended_at is null)
           as open_discrepancies
from sessions s
left join account_truth t using (session_id)
where s.session_id = %s
"""


def account_truth(connection: psycopg.Connection[Any], session_id: UUID) -> AccountTruth | None:
    """What is known of the account of a session; None when there is no such session."""
    with connection.cursor(row_factory=class_row(AccountTruth)) as cursor:
        return cursor.execute(_TRUTH, (session_id,)).fetchone()


_DISCREPANCIES = """
select first_seen_at, kind, subject, message, times_seen, mended_at, mended_by
from discrepancies where session_id = %(session)s order by first_seen_at desc limit %(limit)s
"""


def list_discrepancies(connection: psycopg.Connection[Any], session_id: UUID, limit: int) -> pd.DataFrame:
    """Where the exchange and the books differed, the newest first."""
    return read_frame(connection, _DISCREPANCIES, {"session": session_id, "limit": limit})


@dataclass(frozen=True)
class Drill:
    """One drill of the kill switch; times in milliseconds from engaging it."""

    started_at: datetime
    outcome: str
    reason: str
    refused_ms: float | None
    cancelled_ms: float | None
    flat_ms: float | None


def last_drill(connection: psycopg.Connection[Any]) -> Drill | None:
    """The newest drill, None before the first."""
    with connection.cursor(row_factory=class_row(Drill)) as cursor:
        return cursor.execute(
            "select started_at, outcome, reason, refused_ms, cancelled_ms, flat_ms from kill_drills "
            "order by started_at desc limit 1"
        ).fetchone()


_INSTRUCTIONS = """
select requested_at, kind, coalesce(arguments ->> 'symbol', arguments ->> 'action') as subject, requested_by, status,
       outcome, handled_at, extract(epoch from handled_at - requested_at)::float8 as seconds
from manual_instructions where session_id = %(session)s order by requested_at desc limit %(limit)s
"""


def list_instructions(connection: psycopg.Connection[Any], session_id: UUID, limit: int) -> pd.DataFrame:
    """What people asked for and what became of it, the newest first."""
    return read_frame(connection, _INSTRUCTIONS, {"session": session_id, "limit": limit})


@dataclass(frozen=True)
class InstructionState:
    """What became of one instruction."""

    status: str
    outcome: str | None


def instruction_state(connection: psycopg.Connection[Any], instruction_id: UUID) -> InstructionState | None:
    """Where an instruction stands."""
    with connection.cursor(row_factory=class_row(InstructionState)) as cursor:
        return cursor.execute(
            "select status, outcome from manual_instructions where instruction_id = %s", (instruction_id,)
        ).fetchone()


def current_price(connection: psycopg.Connection[Any], exchange: str, symbol: str) -> float | None:
    """The newest stored price of a symbol, None before the first."""
    row = connection.execute(
        "select t.price from tickers t join instruments i using (instrument_id) "
        "where i.exchange = %s and i.symbol = %s",
        (exchange, symbol),
    ).fetchone()
    return None if row is None else float(row[0])
