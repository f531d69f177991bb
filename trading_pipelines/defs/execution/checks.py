"""What must be true of orders.

Belongs here: checks of the live sessionss' orders. Does not belong here: legal status changes, which the
database enforces.
"""

import dagster as dg

from trading_pipelines.defs.tables import broken_rows
from trading_pipelines.resources.platform import DatabaseResource

_TWICE = """
select o.signal_id, count(*) as entries
from orders o join sessions s using (session_id)
where s.mode = 'paper' and o.leg = 'ENTRY' and o.status not in ('REJECTED', 'CANCELLED')
group by o.signal_id having count(*) > 1
"""


@dg.asset_check(
    asset="orders",
    name="once",
    blocking=True,
    description="No signal has more than one entry order in force.",
)
def orders_once(database: DatabaseResource) -> dg.AssetCheckResult:
    """Name the signals of the live sessions that were entered twice."""
    with database.connect() as connection:
        return broken_rows(connection, _TWICE, {})
