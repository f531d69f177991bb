"""What must be true of transactions, flows and their sums.

Belongs here: checks of stored rows and of sums against what was known. Does not belong here: checks of single items,
which are made when they are read (`adapters.alternative`).
"""

from datetime import timedelta
from typing import LiteralString

import dagster as dg

from trading_pipelines.defs.collected import sources_answer
from trading_pipelines.defs.onchain.assets import EXCHANGE_FLOWS, FLOW_METRICS, WHALE_TRANSACTIONS
from trading_pipelines.defs.scope import run_window
from trading_pipelines.defs.tables import broken_rows, compared
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_TRANSACTIONS: LiteralString = """
select source, transaction_id, ts, available_at from whale_transactions
where ts >= %(start)s and ts < %(end)s and available_at > %(now)s
"""
_FLOWS: LiteralString = """
select source, coin, ts, available_at from exchange_flows
where ts >= %(start)s and ts < %(end)s and (available_at > %(now)s or available_at < ts + interval '1 hour')
"""


def _known_in_time(spec: dg.AssetSpec, query: LiteralString) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=spec.key,
        name="known_after_it_happened",
        blocking=True,
        description="Nothing was known before it had happened, and nothing is known from the future.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
    ) -> dg.AssetCheckResult:
        now = clock.now()
        window = run_window(context, now)
        with database.connect() as connection:
            return broken_rows(connection, query, {"start": window.start, "end": window.end, "now": now})

    return check


@dg.asset_check(
    asset=FLOW_METRICS.key,
    name="no_lookahead",
    blocking=True,
    description="Every stored sum and score follows from the rows that were known when it is said to be known.",
)
def flow_metrics_founded(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Compute the values of the run's days again, each from what was known at its time."""
    from trading_pipelines.application.alternative.flows import check_flows

    window = run_window(context, clock.now())
    start = max(window.start, window.end - timedelta(days=31))
    with database.connect() as connection:
        found = check_flows(connection, settings(), start, window.end)
    return compared(found)


transactions_known_in_time = _known_in_time(WHALE_TRANSACTIONS, _TRANSACTIONS)
flows_known_in_time = _known_in_time(EXCHANGE_FLOWS, _FLOWS)
transaction_sources_answer = sources_answer(WHALE_TRANSACTIONS, "whale_transactions")
flow_sources_answer = sources_answer(EXCHANGE_FLOWS, "exchange_flows")
