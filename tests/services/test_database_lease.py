"""Who keeps the embedded server running: commands, `trading up`, and `trading db start`."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from trading_pipelines.errors import UserError
from trading_pipelines.services.database import (
    prepare_database,
    ready_database,
    running_database,
    start_pinned,
    stop_pinned,
)
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import embedded_server
from trading_pipelines.store.migrate import available


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """A data folder of these tests' own; its server is made once and stands still between them."""
    with tempfile.TemporaryDirectory(prefix="trading-lease-") as folder:
        Path(folder).chmod(0o755)
        settings = load_settings(data_dir=folder)
        yield settings
        embedded_server(settings).stop()


def is_running(settings: Settings) -> bool:
    return embedded_server(settings).status().running


def test_server_runs_for_the_block_only(settings: Settings) -> None:
    told: list[str] = []
    with running_database(settings, on_stop=lambda: told.append("stop")) as url:
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert told == []
    assert told == ["stop"]
    assert not is_running(settings)


def test_last_of_several_users_stops_the_server(settings: Settings) -> None:
    with running_database(settings):
        with running_database(settings):
            pass
        assert is_running(settings)
    assert not is_running(settings)


def test_killed_user_does_not_keep_the_server_from_being_stopped(settings: Settings) -> None:
    code = (
        "from trading_pipelines.services.database import running_database\n"
        "from trading_pipelines.settings import load_settings\n"
        f"with running_database(load_settings(data_dir={str(settings.data_dir)!r})):\n"
        "    print(flush=True); import time; time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
        other.wait()
    assert is_running(settings)
    with running_database(settings):
        pass
    assert not is_running(settings)


def test_pinned_server_outlives_its_users_until_it_is_stopped(settings: Settings) -> None:
    start_pinned(settings)
    with running_database(settings):
        pass
    assert is_running(settings)
    with running_database(settings), pytest.raises(UserError, match="in use"):
        stop_pinned(settings)
    stop_pinned(settings)
    assert not is_running(settings)


def test_ready_database_has_the_schema_and_the_reader(settings: Settings) -> None:
    with ready_database(settings) as url, psycopg.connect(url) as connection:
        applied = [row[0] for row in connection.execute("select name from schema_migrations order by 1")]
        assert len(applied) == len([m for m in available() if not m.needs_timescale])
        assert connection.execute("select 1 from pg_roles where rolname = 'trading_reader'").fetchone() == (1,)


def test_database_of_the_users_own_is_neither_migrated_nor_stopped_unasked(
    server_url: str, template: str, tmp_path: Path
) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=server_url)
    with (
        pytest.raises(UserError, match=r"lacks 0001_market_data, .*: run `trading db migrate`"),
        ready_database(settings),
    ):
        pass
    with psycopg.connect(server_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert not (tmp_path / "postgres").exists()


def test_own_database_gets_a_database_for_dagster(database: str, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=database)
    assert prepare_database(settings, database) == []
    with psycopg.connect(database) as connection:
        assert connection.execute("select 1 from pg_database where datname = 'dagster'").fetchone() == (1,)
