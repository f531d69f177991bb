"""What must be true of a signal before it may be executed.

Belongs here: checks of the live sessionss' signals. Does not belong here: the gates, which decide whether
there is a signal at all.
"""

from trading_pipelines.defs.tables import rows_check

_OUT_OF_ORDER = """
select g.signal_id, i.symbol, g.side, g.stop_price, g.entry_price, g.tp1_price, g.tp2_price, g.tp3_price
from signals g join sessions s using (session_id) join instruments i on i.instrument_id = g.instrument_id
where s.mode = 'paper' and g.status = 'ACTIVE' and not case g.side
    when 'LONG' then g.stop_price < g.entry_price and g.entry_price < g.tp1_price
        and g.tp1_price < g.tp2_price and g.tp2_price < g.tp3_price
    else g.stop_price > g.entry_price and g.entry_price > g.tp1_price
        and g.tp1_price > g.tp2_price and g.tp2_price > g.tp3_price end
"""
_UNFOUNDED = """
select g.signal_id, d.outcome, g.created_at, d.decided_at
from signals g
join decisions d using (session_id, instrument_id, timeframe, ts, strategy)
join sessions s using (session_id)
where s.mode = 'paper' and (d.outcome <> 'SIGNAL' or g.created_at < d.decided_at)
"""


prices_in_order = rows_check(
    "signals",
    "prices_in_order",
    _OUT_OF_ORDER,
    "Stop, entry and targets of an active signal lie in the order of its side.",
    blocking=True,
)


founded = rows_check(
    "signals",
    "founded",
    _UNFOUNDED,
    "Every signal belongs to a decision that gave one.",
    blocking=True,
)
