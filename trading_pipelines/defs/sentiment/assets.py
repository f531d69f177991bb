"""Texts read, scored and put together to a sentiment per coin.

Belongs here: the tables that reading fills, a partition per UTC day. Does not belong here: where texts come from
(`defs.alternative`) and how they are read (`application.alternative.sentiment`).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import DAYS, Window, run_window, traded_symbols
from trading_pipelines.defs.tables import table_spec
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg

OWNER = "team:research"
MENTIONS = table_spec(
    "text_mentions",
    group="alternative",
    owner=OWNER,
    description="The coins that each text speaks of; repetitions are known and not counted twice.",
    kinds={"python"},
    deps=["news", "posts"],
    fresh_within=timedelta(hours=4),
)
SCORES = table_spec(
    "text_scores",
    group="alternative",
    owner=OWNER,
    description="How each text speaks of them, by the chosen scorer.",
    kinds={"python"},
    deps=["text_mentions"],
    fresh_within=timedelta(hours=4),
)
SENTIMENT = table_spec(
    "sentiment",
    group="alternative",
    owner=OWNER,
    description="What was known to be said about each coin at every half-hour, weighted by age.",
    deps=["text_scores"],
    fresh_within=timedelta(hours=4),
)


@dg.multi_asset(
    name="read_texts",
    specs=[MENTIONS, SCORES, SENTIMENT],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def sentiment(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Take up new texts; the day that goes on is continued, days that have ended are computed anew."""
    from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
    from trading_pipelines.domain.market.instrument import split_symbol

    now, chosen = clock.now(), settings().sentiment
    window = run_window(context, now)
    goes_on = window.end == now
    with user_errors(), database.connect() as connection:
        readers = open_readers(chosen)
        report = update_sentiment(
            connection,
            readers,
            now,
            simulated=settings().exchange == SIMULATED,
            coins=[split_symbol(symbol)[0] for symbol in traded_symbols(connection)],
            start=None if goes_on else window.start,
            end=None if goes_on else window.end,
            spec=chosen.aggregation,
            alerts=chosen.alerts,
        )
        counted = _rows(connection, window)
        yield dg.MaterializeResult(
            asset_key=MENTIONS.key,
            metadata={"read": report.read, "repeated": report.repeated, **counted["text_mentions"]},
        )
        yield dg.MaterializeResult(
            asset_key=SCORES.key,
            metadata={
                "scored": report.scored,
                "refused": report.refused,
                "scorers": list(readers.names),
                **counted["text_scores"],
            },
        )
        yield dg.MaterializeResult(
            asset_key=SENTIMENT.key,
            metadata={"new": report.stored, "turns": report.turns, **counted["sentiment"]},
        )


def _rows(connection: "psycopg.Connection[Any]", window: Window) -> dict[str, dict[str, Any]]:
    """Rows of the run's days by table, under the name by which Dagster charts those of a single day."""
    name = "dagster/partition_row_count" if window.days == 1 else "rows"
    span = (window.start, window.end)
    queries = {
        "text_mentions": "select count(*) from text_mentions join texts using (text_id) "
        "where available_at >= %s and available_at < %s",
        "text_scores": "select count(*) from text_scores s join texts t using (text_id) "
        "where t.available_at >= %s and t.available_at < %s",
        "sentiment": "select count(*) from sentiment where ts >= %s and ts < %s",
    }
    counts = {table: connection.execute(query.encode(), span).fetchone() for table, query in queries.items()}
    return {table: {name: row[0] if row else 0} for table, row in counts.items()}
