"""The outside world as Dagster resources: clock, database, market data source, exchange.

Belongs here: factories that resolve settings and secrets at run time and hand out what the application layer
takes as arguments. Does not belong here: what is done with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg

    from trading_pipelines.adapters.alternative.base import AlternativeSource
    from trading_pipelines.adapters.exchanges.base import ExchangePort
    from trading_pipelines.adapters.sources.base import MarketDataSource
    from trading_pipelines.domain.execution.session import TradingSession


class ClockResource(dg.ConfigurableResource[Any]):
    """The wall clock; a test injects one that stands still."""

    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.now(UTC)


class DatabaseResource(dg.ConfigurableResource[Any]):
    """Connections to the platform's database."""

    @contextmanager
    def connect(self) -> "Iterator[psycopg.Connection[Any]]":
        """Open a connection that commits at the end of the block and rolls back on an error."""
        from trading_pipelines.store.connection import connect, resolve_url

        with connect(resolve_url(settings()), application_name="dagster") as connection:
            yield connection


class SourceResource(dg.ConfigurableResource[Any]):
    """The market data source that the settings choose."""

    def open(self) -> "MarketDataSource":
        """Open the source."""
        from trading_pipelines.adapters.sources import open_source

        return open_source(settings())


class OutsideResource(dg.ConfigurableResource[Any]):
    """The sources of alternative data that the settings choose."""

    def open(self, dataset: str) -> "tuple[AlternativeSource[Any], ...]":
        """The sources of a dataset; one that lacks its key is among them and says so when it is asked."""
        from trading_pipelines.adapters.alternative.factory import open_dataset

        return open_dataset(settings(), dataset)


class ExchangeResource(dg.ConfigurableResource[Any]):
    """The exchange account behind a trading session."""

    def open(self, connection: "psycopg.Connection[Any]", session: "TradingSession") -> "ExchangePort":
        """Open the account of `session`; a paper account lives in the database itself."""
        from trading_pipelines.adapters.exchanges.paper import PaperExchange

        return PaperExchange(connection, session.session_id, session.execution)


def platform_resources() -> dict[str, dg.ConfigurableResource[Any]]:
    """All resources under the names that assets, checks and sensors ask for."""
    return {
        "clock": ClockResource(),
        "database": DatabaseResource(),
        "source": SourceResource(),
        "outside": OutsideResource(),
        "exchange": ExchangeResource(),
    }
