"""The database dies under the order path and comes back: nothing that was committed is lost, nothing is doubled."""

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lives import LIVES, Fault, Life, go_on, history, live, unprotected_on_exchange
from trading_world import World

from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.store.connection import connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

DATABASE = "trading"
DEATHS = 6
"""Of the statements of a life so many are met, evenly spread; each costs a recovery of the server."""


@dataclass
class ServerDeath(Fault):
    """The server is killed with signal 9 right before the n-th statement, which then fails by itself."""

    server: EmbeddedPostgres = field(default_factory=lambda: EmbeddedPostgres(Path()))

    def strike(self, connection: psycopg.Connection[Any]) -> None:
        pid = self.server.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def settle(self, database: str, backend: int) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A durable server of this module's own, with the platform's database."""
    with tempfile.TemporaryDirectory(prefix="trading-") as name:
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name).resolve() / "postgres") as started:
            migrate(started.url_of(DATABASE))
            yield started


def again(world: World, connection: Any) -> World:
    """The same world on a connection to the server as it is now."""
    exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
    return World(connection, world.session, exchange, world.ids)


def expected_history(server: EmbeddedPostgres, life: Life) -> tuple[int, list[list[tuple[Any, ...]]]]:
    """How many statements the life has, and what is there after it when nothing strikes."""
    counter = Fault()
    with connect(server.url_of(DATABASE)) as connection:
        world = life.world(connection)
        live(server.url_of(DATABASE), world, life, counter)
        return counter.count, history(world)


@pytest.mark.parametrize("death", range(DEATHS))
@pytest.mark.parametrize("life", LIVES[:2], ids=lambda life: life.name)
def test_death_of_the_server_under_a_statement_leaves_one_entry_and_the_same_history(
    server: EmbeddedPostgres, life: Life, death: int
) -> None:
    statements, expected = expected_history(server, life)
    statement = 1 + (2 * death + 1) * statements // (2 * DEATHS)
    fault = ServerDeath(statement, server=server)
    with connect(server.url_of(DATABASE)) as before:
        world = life.world(before)
        done = live(server.url_of(DATABASE), world, life, fault)
        assert fault.count >= statement
        assert server.is_running()

    with connect(server.url_of(DATABASE)) as connection:
        recovered = again(world, connection)
        where = f"the server died before statement {statement} of {statements}"
        assert unprotected_on_exchange(recovered) == [], where
        go_on(server.url_of(DATABASE), recovered, life, done)
        assert history(recovered) == expected, where
