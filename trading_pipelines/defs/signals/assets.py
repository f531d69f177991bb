"""Decisions and the signals that follow from some of them.

Belongs here: the tables that emission fills for the live sessions. They have no partitions: the past of a live
session is what was decided then, and no backfill may invent it. Does not belong here: gates and thresholds
(`domain.signals`).
"""

from collections.abc import Iterator

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.features.assets import TABLE as FEATURE_TABLE
from trading_pipelines.defs.sessions import for_each_session
from trading_pipelines.defs.tables import table_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource

OWNER = "team:trading"
SPECS = [
    table_spec(
        "decisions",
        group="signals",
        owner=OWNER,
        description="A signal or a rejection per strategy, symbol and closed bar, with every gate's value.",
        deps=["predictions", "composite_scores", FEATURE_TABLE],
    ),
    table_spec(
        "signals",
        group="signals",
        owner=OWNER,
        description="Set-ups that passed all gates: entry, stop, targets, size, costs, expected value.",
        deps=["decisions"],
    ),
]


@dg.multi_asset(name="emit", specs=SPECS)
def emission(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Decide every pending bar of every live session."""
    from trading_pipelines.application.signals.emission import EmissionReport, emit_signals

    now = clock.now()
    with user_errors(), database.connect() as connection:
        outcomes = for_each_session(
            context.log, connection, lambda session: emit_signals(connection, session, now, run_id=context.run.run_id)
        )
        report = sum(outcomes.done.values(), EmissionReport())
        context.log.info(
            "%d bars decided: %d signals, %d exits, rejected %s",
            report.bars,
            len(report.signal_ids),
            report.exits,
            dict(report.reasons),
        )
        yield dg.MaterializeResult(
            asset_key="decisions",
            metadata={
                "sessions": list(outcomes.done),
                "bars": report.bars,
                "exits": report.exits,
                "rejected": report.rejected,
                "reasons": dict(report.reasons),
                **table_rows(connection, "decisions"),
            },
        )
        yield dg.MaterializeResult(
            asset_key="signals",
            metadata={
                "new": len(report.signal_ids),
                "signal_ids": [str(signal_id) for signal_id in report.signal_ids],
                **table_rows(connection, "signals"),
            },
        )
        outcomes.raise_failures()
