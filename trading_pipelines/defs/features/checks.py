"""What must be true of features before anything is predicted from them.

Belongs here: checks of stored features. Does not belong here: the tests of single indicators.
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.features.assets import TABLE
from trading_pipelines.defs.scope import run_window, traded_symbols
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_NOT_FINITE = """
select i.symbol, v.name, count(*) filter (where v.value in ('NaN', 'Infinity', '-Infinity')) as broken,
count(*) as rows from {features} f join instruments i using (instrument_id) join feature_sets s using
(feature_set_id) cross join lateral (select min(ts) as ts from {candles} c where c.instrument_id =
f.instrument_id) first cross join lateral unnest(f.values, s.names) as v (value, name) where i.exchange =
%(exchange)s and f.ts >= %(start)s and f.ts < %(end)s and f.ts >= first.ts + %(warm_up)s group by 1, 2
having count(*) filter (where v.value in ('NaN', 'Infinity', '-Infinity')) > 0
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
    """Count the values that are no number; those that come from other series only warn.

    Another series may rightly have a hole. A feature that a symbol never has, such as its relation to the
    leading symbol when it is that symbol, is left out; so are series from outside, each with its own freshness.
    """
    from psycopg.sql import SQL, Identifier

    from trading_pipelines.domain.features.registry import REGISTRY, WARMUP_BARS, Source

    window = run_window(context, clock.now())
    timeframe = Timeframe(settings().signal_timeframe)
    own = {spec.name for spec in REGISTRY if spec.source is Source.OWN}
    outside = {spec.name for spec in REGISTRY if spec.series is not None}
    query = SQL(_NOT_FINITE).format(features=Identifier(TABLE), candles=Identifier(f"ohlcv_{timeframe}"))
    span = {"exchange": settings().exchange, "start": window.start, "end": window.end}
    with database.connect() as connection:
        found = connection.execute(query, {**span, "warm_up": WARMUP_BARS["signal"] * timeframe.delta}).fetchall()
    broken = {
        f"{symbol} {name}": count
        for symbol, name, count, rows in found
        if name in own or (count < rows and name not in outside)
    }
    blocks = any(name in own for _, name, _, _ in found)
    return dg.AssetCheckResult(
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        metadata={"rows_without_a_number": broken},
    )


@dg.asset_check(
    asset=TABLE,
    name="no_lookahead",
    blocking=True,
    description="Sampled rows follow from what was known at their time, and more history changes none of them.",
)
def features_no_lookahead(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Recompute some rows of the run's days as of their time; every run draws others."""
    from trading_pipelines.application.audit.corrections import trace_changes
    from trading_pipelines.application.audit.leakcheck import check_features, explain_leaks

    now = clock.now()
    window = run_window(context, now)
    with user_errors(), database.connect() as connection:
        trace_changes(connection, settings().exchange, Timeframe(settings().signal_timeframe))
        report = check_features(
            connection,
            settings().exchange,
            traded_symbols(connection),
            settings().signal_timeframe,
            settings().orchestration.lookahead_samples,
            int(now.timestamp()),
            window.start,
            window.end,
        )
        causes = {
            symbol: explain_leaks(connection, settings().exchange, symbol, settings().signal_timeframe, leaks)
            for symbol, leaks in report.leaks.items()
        }
    leaks = {
        symbol: [f"{leak}; {cause}" for leak, cause in zip(found, causes[symbol], strict=True)]
        for symbol, found in report.leaks.items()
    }
    unsteady = {symbol: [str(leak) for leak in found] for symbol, found in report.unsteady.items()}
    return dg.AssetCheckResult(
        passed=not (leaks or unsteady),
        metadata={"rows": report.checked, "leaks": leaks, "changed_by_more_history": unsteady},
    )
