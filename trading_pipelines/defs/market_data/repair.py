"""Asking again for candles that are missing.

Belongs here: when and that it is done. Does not belong here: what is believed of the answers
(`application.market_data.repair`).
"""

from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.market_data.assets import BASE, BASE_TABLE, POOL
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import DatabaseResource, SourceResource
from trading_pipelines.settings import settings


@dg.op(pool=POOL)
def repair_open_gaps(context: dg.OpExecutionContext, database: DatabaseResource, source: SourceResource) -> None:
    """Ask the exchange, and the second source if there is one, about every open gap."""
    from trading_pipelines.adapters.sources.factory import open_second_source
    from trading_pipelines.application.market_data.repair import repair_gaps

    with user_errors(), database.connect() as connection:
        second = open_second_source(settings())
        report = repair_gaps(connection, source.open(), BASE, settings().repair, second)
    for line in (*report.refused, *report.errors):
        context.log.warning(line)
    if report.asked:
        context.log_event(
            dg.AssetMaterialization(
                BASE_TABLE,
                metadata={"asked": report.asked, "repaired": report.repaired, "substituted": report.substituted},
            )
        )


@dg.job(
    name="repair",
    description="Ask again for missing candles, gap by gap; what stays missing is proven to be absent.",
    tags={"dagster/max_runtime": "1800"},
)
def repair_job() -> None:
    repair_open_gaps()


@dg.schedule(
    job=repair_job,
    description="Gaps in the fetched candles, where there are any.",
    cron_schedule="36 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def repair_schedule(context: dg.ScheduleEvaluationContext, database: DatabaseResource) -> dg.RunRequest | dg.SkipReason:
    """Ask for it when a gap is open."""
    from trading_pipelines.store.repositories import gaps

    rules = settings().repair
    with database.connect() as connection:
        pause = timedelta(minutes=rules.pause_minutes)
        if not gaps.open_gaps(connection, settings().exchange, BASE, pause, 1):
            return dg.SkipReason("no gap is open")
    if is_under_way(context.instance, repair_job.name):
        return dg.SkipReason("the last run has not ended")
    return dg.RunRequest()
