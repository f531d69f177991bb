"""When models are trained.

Belongs here: regular training. Does not belong here: the first training of a new installation.
"""

import dagster as dg

from trading_pipelines.defs.models.assets import TrainingConfig
from trading_pipelines.defs.models.jobs import training_job
from trading_pipelines.defs.models.partitions import add_symbols, partition_key
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.settings import settings


@dg.schedule(
    job=training_job,
    description="New model versions on everything known by then, one run per symbol.",
    cron_schedule="35 1 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def training_schedule(
    context: dg.ScheduleEvaluationContext, database: DatabaseResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Train every symbol every night on everything known by then.

    The as-of time is that of the tick: a retried run is the same training and goes on where the first one stopped.
    """
    if is_under_way(context.instance, training_job.name):
        return dg.SkipReason("the last training has not ended")
    with database.connect() as connection:
        symbols = traded_symbols(connection)
    if not symbols:
        return dg.SkipReason("no symbol is stored yet")
    add_symbols(context.instance, symbols)
    as_of = context.scheduled_execution_time.isoformat()
    return [
        dg.RunRequest(
            run_key=f"{symbol}:{as_of}",
            partition_key=partition_key(symbol, settings().signal_timeframe),
            run_config=dg.RunConfig(ops={"train": TrainingConfig(as_of=as_of)}),
        )
        for symbol in symbols
    ]
