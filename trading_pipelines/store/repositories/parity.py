"""What the comparison of drivers reads of a session: its decisions and fills, without what differs by nature."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.parity import DecisionRecord


@dataclass(frozen=True)
class StoredFill:
    """One fill of a session, in the order of the exchange."""

    ts: datetime
    symbol: str
    kind: str
    side: str
    quantity: Decimal
    reference_price: Decimal


_DECISIONS = """
select d.ts, i.symbol, d.strategy, d.outcome, d.side, d.reason,
       exists (select from orders o where o.signal_id = s.signal_id and o.leg = 'ENTRY') as taken
from decisions d
join instruments i using (instrument_id)
left join signals s using (session_id, instrument_id, timeframe, ts, strategy)
where d.session_id = %s and d.ts >= %s and d.ts < %s
order by d.ts, i.symbol, d.strategy
"""
_FILLS = """
select f.ts, i.symbol, f.kind, f.side, f.quantity, f.reference_price
from fills f join instruments i using (instrument_id)
where f.session_id = %s and f.ts >= %s and f.ts < %s
order by f.sequence
"""


def decisions(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[DecisionRecord]:
    """Decisions about the bars that open in [start, end)."""
    with connection.cursor(row_factory=class_row(DecisionRecord)) as cursor:
        return cursor.execute(_DECISIONS, (session_id, start, end)).fetchall()


def fills(connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime) -> list[StoredFill]:
    """Fills of [start, end) as they happened on the exchange."""
    with connection.cursor(row_factory=class_row(StoredFill)) as cursor:
        return cursor.execute(_FILLS, (session_id, start, end)).fetchall()
