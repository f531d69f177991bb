"""What must be true of orders.

Belongs here: checks of the live session's orders. Does not belong here: legal status changes, which the
database enforces.
"""

import dagster as dg

from trading_pipelines.defs.tables import broken_rows
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.settings import settings

_TWICE = """
select o.signal_id, count(*) as entries
from orders o join sessions s using (session_id)
where s.name = %(session)s and o.leg = 'ENTRY' and o.status not in ('REJECTED', 'CANCELLED')
group by o.signal_id having count(*) > 1
"""


@dg.asset_check(
    asset="orders",
    name="once",
    blocking=True,
    description="No signal has more than one entry order in force.",
)
def orders_once(database: DatabaseResource) -> dg.AssetCheckResult:
    """Name the signals of the live session that were entered twice."""
    with database.connect() as connection:
        return broken_rows(connection, _TWICE, {"session": settings().session.name})
