"""Jobs that train models and look back at what they predicted.

Belongs here: what one run does. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.leaks.checks import CHECKS as LEAK_CHECKS
from trading_pipelines.defs.models.assets import MODEL_VERSIONS
from trading_pipelines.defs.models.progress import ProgressLog
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.settings import settings

HEAVY = {"trading/load": "heavy"}
"""The run queue lets one such run through at a time, so that trading always has room."""

training_job = dg.define_asset_job(
    "training",
    selection=dg.AssetSelection.assets(MODEL_VERSIONS.key) - LEAK_CHECKS,
    description="Train a version per symbol and put it into production.",
    tags={"dagster/max_runtime": "7200", "dagster/max_retries": "2", **HEAVY},
)


@dg.op
def share_trainings(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
    """Take folds of every training that has no version yet, until all have one."""
    from trading_pipelines.application.models.training import resume

    with user_errors(), database.connect() as connection:
        reports = resume(connection, settings().exchange, on_progress=ProgressLog(context))
    context.add_output_metadata({report.symbol: report.verdict for report in reports})


@dg.job(
    name="training_help",
    description="Share the folds of trainings under way, for run workers on other machines; finish interrupted ones.",
    tags={"dagster/max_runtime": "7200"},
)
def training_help_job() -> None:
    share_trainings()
