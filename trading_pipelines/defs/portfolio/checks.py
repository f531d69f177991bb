"""What must be true of the account at any time.

Belongs here: checks of positions and equity of the live sessions. Does not belong here: how a breach is
mended, which the fast service does at once and without Dagster.
"""

from trading_pipelines.defs.tables import rows_check

_UNPROTECTED = """
select p.position_id, i.symbol, p.side, p.quantity_open, p.quantity_protected, p.stop_price, p.mark_price
from positions p join instruments i using (instrument_id) join sessions s using (session_id)
where s.mode = 'paper' and p.status = 'OPEN'
  and (p.stop_price is null or p.quantity_protected < p.quantity_open)
"""
_UNBALANCED = """
select e.ts, e.equity, e.cash, e.margin, e.unrealised
from equity e join sessions s using (session_id)
where s.mode = 'paper'
  and ('NaN' in (e.equity, e.cash, e.margin, e.unrealised)
       or abs(e.equity - (e.cash + e.margin + e.unrealised)) > 1e-6 * greatest(1, abs(e.equity)))
order by e.ts desc
"""


positions_protected = rows_check(
    "positions",
    "protected",
    _UNPROTECTED,
    "Every open position has a stop for its whole quantity.",
    blocking=True,
)


equity_identity = rows_check(
    "equity",
    "identity",
    _UNBALANCED,
    "Equity is cash plus bound margin plus unrealised result, at every mark.",
    blocking=True,
)
