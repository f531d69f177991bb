"""The application on a filled database, on an empty one, on none."""

import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import page_driver
import psycopg
import pytest
import streamlit as st
from page_driver import OpenPage
from psycopg.conninfo import make_conninfo
from seed import seed
from seed_analysis import seed_analysis
from seed_flows import seed_flows
from seed_scores import seed_scores

from trading_pipelines.store.connection import connect

# Streamlit puts the folder of the main script on the path; the tests of single modules need the same.
sys.path.insert(0, str(page_driver.APP))

SYMBOLS = ("BTC", "ETH", "SOL", "PEPE")


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    """Caches outlive a test's database."""
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def filled_template(server_url: str, template: str) -> Iterator[str]:
    """Name of a filled database, to be cloned."""
    name = f"filled_{uuid.uuid4().hex[:8]}"
    _administer(server_url, f"create database {name} template {template} strategy file_copy")
    with connect(make_conninfo(server_url, dbname=name)) as connection:
        now = datetime.now(UTC)
        seed(connection, now, days=4, symbols=SYMBOLS)
        seed_analysis(connection, now)
        seed_flows(connection, now)
        seed_scores(connection, now)
    yield name
    _administer(server_url, f"drop database {name} with (force)")


@pytest.fixture
def filled_database(server_url: str, filled_template: str) -> Iterator[str]:
    """Address of a filled database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _administer(server_url, f"create database {name} template {filled_template} strategy file_copy")
    yield make_conninfo(server_url, dbname=name)
    _administer(server_url, f"drop database {name} with (force)")


@pytest.fixture
def open_page(filled_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenPage:
    """Open a page on a filled database."""
    return _opener(filled_database, monkeypatch, tmp_path)


@pytest.fixture
def open_empty_page(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenPage:
    """Open a page on a database that has tables but no rows."""
    return _opener(database, monkeypatch, tmp_path)


@pytest.fixture
def open_page_without_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenPage:
    """Open a page while no server answers."""
    return _opener("postgresql://nobody@127.0.0.1:1/none", monkeypatch, tmp_path)


@pytest.fixture
def change(filled_database: str) -> Callable[[str], None]:
    """Change the filled database behind the page's back and forget what was read."""

    def execute(statement: str) -> None:
        with connect(filled_database) as connection:
            connection.execute(statement.encode())
        st.cache_data.clear()

    return execute


def _opener(url: str, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> OpenPage:
    monkeypatch.setenv("TRADING_DATABASE_URL", url)
    monkeypatch.setenv("TRADING_DATA_DIR", str(data_dir))
    return page_driver.open_page


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
