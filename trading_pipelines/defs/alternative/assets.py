"""Indices, crowd figures, news and posts, from their sources into the database.

Belongs here: one asset per dataset; several sources may deliver it. Does not belong here: how a source is asked
(`adapters.alternative`), what is stored of it (`application.alternative.alternative_data`), and what texts say
(`defs.sentiment`).

Where sources have a history, a dataset has a partition per UTC day and any day can be fetched again. Where they only
tell of now, there is nothing to rebuild, and no partitions.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_pipelines.defs.collected import outcome
from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.scope import DAYS, run_window
from trading_pipelines.defs.tables import table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, OutsideResource

if TYPE_CHECKING:
    import psycopg

OWNER = "team:market-data"


@dataclass(frozen=True)
class Dataset:
    """What sources deliver together.

    Attributes
    ----------
    series : tuple of str
        Of the observations; none for texts.
    daily : bool
        Whether its sources have a history.
    """

    name: str
    table: str
    description: str
    fresh_within: timedelta
    series: tuple[str, ...] = ()
    daily: bool = False

    @property
    def spec(self) -> dg.AssetSpec:
        """How it presents itself."""
        return table_spec(
            self.table,
            key=self.name,
            group="alternative",
            owner=OWNER,
            description=self.description,
            kinds={"python"},
            fresh_within=self.fresh_within,
        )


DATASETS = (
    Dataset(
        "fear_greed",
        "observations",
        "The Fear & Greed index of each day, as it was published.",
        timedelta(hours=30),
        ("fear_greed",),
        daily=True,
    ),
    Dataset(
        "coin_metrics",
        "observations",
        "Market values, dominance, searches and votes of CoinGecko.",
        timedelta(hours=6),
        ("market_cap_usd", "btc_dominance", "trending_place", "community_sentiment"),
    ),
    Dataset(
        "social_metrics",
        "observations",
        "How much and how gladly coins are talked about, by LunarCrush.",
        timedelta(hours=6),
        ("galaxy_score", "social_volume", "social_dominance"),
        daily=True,
    ),
    Dataset(
        "derivatives_sentiment",
        "observations",
        "Open interest, and how accounts and takers of perpetual contracts are positioned.",
        timedelta(hours=6),
        ("open_interest_usd", "long_short_ratio", "taker_buy_sell_ratio"),
        daily=True,
    ),
    Dataset("news", "texts", "Headlines of news feeds, as plain text.", timedelta(hours=2)),
    Dataset("posts", "texts", "Posts of forums, as plain text.", timedelta(hours=2)),
)


def _asset_of(dataset: Dataset) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"collect_{dataset.name}",
        specs=[dataset.spec],
        partitions_def=DAYS if dataset.daily else None,
        backfill_policy=dg.BackfillPolicy.single_run() if dataset.daily else None,
        retry_policy=TRANSIENT,
        pool=f"source_{dataset.name}",
    )
    def collected(
        context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource, outside: OutsideResource
    ) -> dg.MaterializeResult:
        from trading_pipelines.application.alternative.alternative_data import OVERLAP, collect, collect_newest

        sources, now = outside.open(dataset.name), clock.now()
        with user_errors(), database.connect() as connection:
            if dataset.daily:
                window = run_window(context, now)
                reports = [
                    collect(connection, source, window.start - OVERLAP, window.end, now=now) for source in sources
                ]
            else:
                reports = collect_newest(connection, sources, now)
            known_today = _known_today(connection, dataset, now)
        return dg.MaterializeResult(
            asset_key=dataset.spec.key, metadata={**outcome(context, reports), "known_today": known_today}
        )

    return collected


def _known_today(connection: "psycopg.Connection[Any]", dataset: Dataset, now: datetime) -> int:
    """Rows of the dataset that became known since midnight."""
    since = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if dataset.series:
        query = "select count(*) from observations where series = any(%s) and available_at >= %s"
        row = connection.execute(query, (list(dataset.series), since)).fetchone()
    else:
        query = "select count(*) from texts where kind = %s and available_at >= %s"
        row = connection.execute(query, ("NEWS" if dataset.name == "news" else "POST", since)).fetchone()
    return row[0] if row else 0


COLLECTED = [_asset_of(dataset) for dataset in DATASETS]
