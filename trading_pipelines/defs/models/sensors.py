"""What retrains a model out of turn.

Belongs here: the reaction to drift. Does not belong here: when there is drift (`domain.validation.drift`).
"""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg

from trading_pipelines.defs.models.assets import TrainingConfig
from trading_pipelines.defs.models.jobs import training_job
from trading_pipelines.defs.models.partitions import add_symbols, partition_key
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.sensor(
    job=training_job,
    description="Train a symbol again when its version in production begins to drift.",
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def retrain_on_drift(
    context: dg.SensorEvaluationContext, clock: ClockResource, database: DatabaseResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for one training per symbol when drift begins; while it lasts, or within the cooldown, for none.

    The cursor keeps, per symbol and timeframe, when a training was asked for last and which drifted at the last look.
    """
    from trading_pipelines.store.repositories import drift

    now = clock.now()
    before = json.loads(context.cursor) if context.cursor else {"asked": {}, "drifting": []}
    with database.connect() as connection:
        found = drift.drifting(connection, settings().exchange)
    keys = {partition_key(d.symbol, d.timeframe): d for d in found}
    cooldown = timedelta(hours=settings().drift.retrain_cooldown_hours)
    due = [key for key in keys if key not in before["drifting"] and now - _moment(before["asked"].get(key)) >= cooldown]
    # What began within the cooldown is looked at again after it: it is kept out of those that were seen.
    waiting = [key for key in keys if key not in before["drifting"] and key not in due]
    add_symbols(context.instance, sorted({keys[key].symbol for key in due}))
    asked = before["asked"] | dict.fromkeys(due, now.isoformat())
    cursor = json.dumps({"asked": asked, "drifting": sorted(set(keys) - set(waiting))})
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=f"drift:{key}:{now.isoformat()}",
                partition_key=key,
                run_config=dg.RunConfig(ops={"train": TrainingConfig(as_of=now.isoformat())}),
                tags={"trading/reason": "; ".join(keys[key].reasons)},
            )
            for key in due
        ],
        cursor=cursor,
    )


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime(1970, 1, 1, tzinfo=UTC)
