"""What must be true of features before anything is predicted from them.

Belongs here: checks of stored features. Does not belong here: the tests of single indicators.
"""

import dagster as dg

from trading_pipelines.defs.features.assets import TABLE
from trading_pipelines.defs.scope import run_window
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_FROM_OTHER_SERIES = {"higher timeframe", "market"}
"""Groups of features that are rightly empty where the other series has a hole, or never existed."""
_NOT_FINITE = """
select v.name, count(*)
from {features} f
join instruments i using (instrument_id)
join feature_sets s using (feature_set_id)
cross join lateral (select min(ts) as ts from {candles} c where c.instrument_id = f.instrument_id) first
cross join lateral unnest(f.values, s.names) as v (value, name)
where i.exchange = %(exchange)s and f.ts >= %(start)s and f.ts < %(end)s and f.ts >= first.ts + %(warm_up)s
  and v.value in ('NaN', 'Infinity', '-Infinity')
group by v.name
"""


@dg.asset_check(
    asset=TABLE,
    name="finite",
    blocking=True,
    description="After the warm-up every feature of the bars' own series is a number.",
)
def features_finite(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Count the values that are no number; only those from other series may be, and are a warning."""
    from psycopg.sql import SQL, Identifier

    from trading_pipelines.domain.features.registry import REGISTRY, WARMUP_BARS

    window = run_window(context, clock.now())
    timeframe = Timeframe(settings().signal_timeframe)
    query = SQL(_NOT_FINITE).format(features=Identifier(TABLE), candles=Identifier(f"ohlcv_{timeframe}"))
    with database.connect() as connection:
        missing = dict(
            connection.execute(
                query,
                {
                    "exchange": settings().exchange,
                    "start": window.start,
                    "end": window.end,
                    "warm_up": WARMUP_BARS["signal"] * timeframe.delta,
                },
            ).fetchall()
        )
    own = {spec.name for spec in REGISTRY if spec.group not in _FROM_OTHER_SERIES}
    return dg.AssetCheckResult(
        passed=not missing,
        severity=dg.AssetCheckSeverity.ERROR if own & missing.keys() else dg.AssetCheckSeverity.WARN,
        metadata={"rows_without_a_number": missing},
    )
