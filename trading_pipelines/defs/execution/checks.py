"""What must be true of orders.

Belongs here: checks of the live sessionss' orders. Does not belong here: legal status changes, which the
database enforces.
"""

from trading_pipelines.defs.tables import rows_check

_TWICE = """
select o.signal_id, count(*) as entries
from orders o join sessions s using (session_id)
where s.mode = 'paper' and o.leg = 'ENTRY' and o.status not in ('REJECTED', 'CANCELLED')
group by o.signal_id having count(*) > 1
"""


orders_once = rows_check(
    "orders",
    "once",
    _TWICE,
    "No signal has more than one entry order in force.",
    blocking=True,
)
