"""What must be true of what was found out about the market.

Belongs here: checks of stored opinions, rankings and anomalies. Does not belong here: whether they are worth anything.
"""

from trading_pipelines.defs.analysis.assets import ANOMALIES, SCREENER, TECHNICAL
from trading_pipelines.defs.tables import rows_check

_OUT_OF_ORDER = """
select i.symbol, t.ts, t.side, t.stop_price, t.entry_price, t.tp1_price, t.tp2_price, t.tp3_price
from technical_signals t join instruments i using (instrument_id)
where i.exchange = %(exchange)s and t.ts >= %(start)s and t.ts < %(end)s and (
    t.available_at <> t.ts + interval '15 minutes' or not case t.side
        when 'LONG' then t.stop_price < t.entry_price and t.entry_price < t.tp1_price
            and t.tp1_price < t.tp2_price and t.tp2_price < t.tp3_price and t.trend_4h > 0
        when 'SHORT' then t.stop_price > t.entry_price and t.entry_price > t.tp1_price
            and t.tp1_price > t.tp2_price and t.tp2_price > t.tp3_price and t.trend_4h < 0
        else num_nonnulls(t.stop_price, t.tp1_price, t.quantity) = 0 end)
"""
_NOT_KNOWN_AT_CLOSE = """
select i.symbol, a.timeframe, a.ts, a.kind, a.available_at
from anomalies a join instruments i using (instrument_id)
where i.exchange = %(exchange)s and a.ts >= %(start)s and a.ts < %(end)s
  and (a.available_at <> a.ts + a.timeframe::interval or a.available_at > %(now)s)
"""
_BROKEN_ORDER = """
select r.ts, count(*) as rows, count(distinct r.rank) as ranks, max(r.rank) as last, min(r.symbols) as symbols
from screener_rankings r join instruments i using (instrument_id)
where i.exchange = %(exchange)s and r.ts >= %(start)s and r.ts < %(end)s
group by 1 having count(*) <> max(r.rank) or count(distinct r.rank) <> count(*) or min(r.symbols) <> count(*)
"""


levels_in_order = rows_check(
    TECHNICAL.key,
    "levels_in_order",
    _OUT_OF_ORDER,
    "Levels lie in the order of the side, the side is that of the 4h trend, and neutral has no levels.",
    blocking=True,
)


anomalies_known_at_close = rows_check(
    ANOMALIES.key,
    "known_at_close",
    _NOT_KNOWN_AT_CLOSE,
    "Every anomaly became known at the close of its bar, and no bar has yet to close.",
    blocking=True,
)


ranks_complete = rows_check(
    SCREENER.key,
    "ranks_complete",
    _BROKEN_ORDER,
    "The places of a day go from one to the number of symbols, none twice.",
    blocking=True,
)
