"""Daily parity: did the live sessions decide what their rules decide from the same rows?

Belongs here: when it is asked, and what a difference does to the asset. Does not belong here: the comparison
(`application.research.daily_parity`). Nothing waits for it: trading goes on, and a person is told.
"""

from datetime import date, timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.tables import rows_check, table_rows, table_spec
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

PARITY = table_spec(
    "parity_reports",
    group="portfolio",
    owner="team:trading",
    description="Per live session and day: decisions and fills against a replay of the same rows under the same rules.",
    deps=["decisions", "fills"],
    fresh_within=timedelta(hours=26),
)
_DIVERGED = """
select s.name as session, r.day, r.diverged, r.first_divergence ->> 'says' as first
from parity_reports r join sessions s using (session_id)
where s.mode = 'paper' and r.diverged > 0
  and r.computed_at > (select max(computed_at) from parity_reports) - interval '1 day'
order by r.day desc, s.name
"""


class ParityConfig(dg.Config):
    """Which day is compared."""

    day: str | None = None
    """UTC day such as 2025-07-01; empty means yesterday."""


@dg.multi_asset(name="compare_with_replay", specs=[PARITY])
def parity_reports(
    context: dg.AssetExecutionContext, config: ParityConfig, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Replay a day of every live session from the stored rows, and compare."""
    from trading_pipelines.application.research.daily_parity import live_parity

    now = clock.now()
    day = date.fromisoformat(config.day) if config.day else now.date() - timedelta(days=1)
    with user_errors(), database.connect() as connection:
        found = live_parity(connection, settings().exchange, day, now, run_id=context.run.run_id)
        metadata = {
            f"{session}: {name}": getattr(row, name)
            for session, row in found.items()
            for name in ("decisions", "equal", "late", "missed", "diverged", "fills", "price_bps_mean")
        }
        return dg.MaterializeResult(
            asset_key="parity_reports",
            metadata={"day": day.isoformat(), **metadata, **table_rows(connection, "parity_reports")},
        )


same_decisions = rows_check(
    "parity_reports",
    "same_decisions",
    _DIVERGED,
    "No live session decided differently from a replay of the same rows under the same rules.",
)


parity_job = dg.define_asset_job(
    "parity",
    selection=dg.AssetSelection.assets("parity_reports"),
    description="Compare yesterday's decisions and fills with a replay of the same rows.",
    tags={"dagster/max_runtime": "1800"},
)


@dg.schedule(
    job=parity_job,
    description="Yesterday's decisions and fills against a replay.",
    cron_schedule="27 0 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def parity_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Compare every night, once the last bars of the day are decided."""
    if is_under_way(context.instance, parity_job.name):
        return dg.SkipReason("the last comparison has not ended")
    return dg.RunRequest()
