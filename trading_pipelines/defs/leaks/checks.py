"""Whether anything stored knew the future: computed again, every night, from what was known at its time.

Belongs here: the point-in-time checks that take too long for the run that fills the table. Does not belong here: those
of features, predictions and scores, which run with every update, and the computation
(`application.audit.decision_path`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.market_data.assets import DERIVED_TABLES
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    from trading_pipelines.application.audit.decision_path import AssetCheck

NAME = "point_in_time"
_CANDLES = {f"ohlcv_{longer}": f"{longer}." for longer in ("1h", "4h", "1d") if f"ohlcv_{longer}" in DERIVED_TABLES}
_DESCRIPTIONS = {
    **dict.fromkeys(_CANDLES, "Sampled candles follow from the shorter ones of their own span."),
    "model_versions": "Folds are purged, labels end when they say, and a fit on what was known gives the same bytes.",
    "decisions": "Strategies decide sampled bars alone as they did, and the same when everything later is taken away.",
}
CHECKED_BY = {
    **dict.fromkeys(_CANDLES, ("candles",)),
    "model_versions": ("labels", "splits", "models"),
    "decisions": ("decisions", "strategies"),
}
"""By table: what of `trading leakcheck` is about it."""
CHECKS = dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(table), NAME) for table in CHECKED_BY))


@dg.multi_asset_check(
    name="leaks",
    specs=[dg.AssetCheckSpec(NAME, asset=table, description=text) for table, text in _DESCRIPTIONS.items()],
    can_subset=True,
)
def leaks(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.AssetCheckResult]:
    """Compute some rows of every table again; every night draws others."""
    from trading_pipelines.application.audit.corrections import trace_changes
    from trading_pipelines.application.audit.decision_path import check_assets

    tables = {key.asset_key.to_user_string() for key in context.selected_asset_check_keys}
    wanted = [name for table in CHECKED_BY if table in tables for name in CHECKED_BY[table]]
    with user_errors(), database.connect() as connection:
        trace_changes(connection, settings().exchange, Timeframe(settings().signal_timeframe))
        found = check_assets(
            connection,
            settings(),
            traded_symbols(connection),
            settings().signal_timeframe,
            settings().orchestration.leak_check_samples,
            int(clock.now().timestamp()),
            tuple(dict.fromkeys(wanted)),
        )
    by_name = {check.asset: check for check in found}
    for table in (table for table in CHECKED_BY if table in tables):
        yield _result(table, [by_name[name] for name in CHECKED_BY[table]])


def _result(table: str, checks: "list[AssetCheck]") -> dg.AssetCheckResult:
    told = [
        f"{f.symbol} {f.column} at {f.first:%Y-%m-%d %H:%M}: stored {f.stored}, known was {f.recomputed}; {f.cause}"
        for check in checks
        for f in check.findings
        if f.column.startswith(_CANDLES.get(table, ""))
    ]
    return dg.AssetCheckResult(
        asset_key=table,
        check_name=NAME,
        passed=not told,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "rows": {check.asset: check.checked for check in checks},
            "leaks": told,
            "said_before_inputs_changed": {check.asset: len(check.superseded) for check in checks if check.superseded},
        },
    )
