"""The commands on a fresh clone: the embedded server comes and goes with them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run

from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import embedded_server


@pytest.fixture
def data_dir(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that the server's account may enter."""
    with tempfile.TemporaryDirectory(prefix="trading-cli-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("TRADING_DATA_DIR", folder)
        yield Path(folder)
        embedded_server(load_settings(data_dir=folder)).stop()


def test_server_lives_as_long_as_it_is_wanted(run: Run, data_dir: Path) -> None:
    server = embedded_server(load_settings(data_dir=data_dir))
    assert run("kill", "status").out == "released: never engaged\n"
    assert not server.status().running

    started = run("db", "start", "--json").json
    assert started["database"]["running"]
    assert run("db", "url").out.startswith("postgresql://")
    assert run("kill", "status").code == 0
    assert server.status().running
    assert run("db", "stop").out == "stopped\n"
    assert not server.status().running
