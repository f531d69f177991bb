"""Jobs that make signals and let them expire.

Belongs here: what one run does. Does not belong here: when it is asked for (`sensors.py`, `schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.leaks.checks import CHECKS as LEAK_CHECKS
from trading_pipelines.defs.sessions import for_each_session
from trading_pipelines.defs.signals.assets import SPECS
from trading_pipelines.resources.platform import ClockResource, DatabaseResource

signal_emission_job = dg.define_asset_job(
    "signal_emission",
    selection=dg.AssetSelection.assets(*(spec.key for spec in SPECS)) - LEAK_CHECKS,
    description="Decide every closed bar that has no decision yet.",
    tags={"dagster/max_runtime": "180", "dagster/priority": "5"},
)


@dg.op
def expire_signals(context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource) -> None:
    """Expire the active signals whose validity has ended."""
    from trading_pipelines.application.signals import emission

    now = clock.now()
    with user_errors(), database.connect() as connection:
        outcomes = for_each_session(context.log, connection, lambda s: emission.expire_signals(connection, s, now))
    if expired := sum(outcomes.done.values()):
        context.log_event(dg.AssetMaterialization("signals", metadata={"expired": expired}))
    outcomes.raise_failures()


@dg.job(
    name="signal_expiry",
    description="Expire the active signals whose validity has ended.",
    tags={"dagster/max_runtime": "180", "dagster/priority": "2"},
)
def signal_expiry_job() -> None:
    expire_signals()
