"""Fixtures for the command line: run it in this process, on the test's own database."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Outcome

from trading_pipelines.cli import main
from trading_pipelines.cli.failures import show_tracebacks


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Outcome]]:
    """Run `trading` with the given arguments, in an empty data folder, without a database."""
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path / "data"))
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capsys.readouterr()
        return Outcome(int(exited.value.code or 0), captured.out, captured.err)

    yield call
    for handler in set(logging.getLogger().handlers) - set(handlers):
        handler.close()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    show_tracebacks(False)


@pytest.fixture
def on_database(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the commands use the test's own database."""
    monkeypatch.setenv("TRADING_DATABASE_URL", database)
    return database


@pytest.fixture
def small_market(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two simulated symbols and a training that takes a second."""
    for name, value in {
        "SIMULATION__SYMBOLS": '["BTCUSDT", "ETHUSDT"]',
        "SIMULATION__HISTORY_DAYS": "60",
        "TRAINING__TRAIN_DAYS": "30",
        "TRAINING__TEST_DAYS": "3",
        "TRAINING__FOLDS": "1",
        "TRAINING__EARLY_STOPPING_DAYS": "5",
        "TRAINING__NUM_BOOST_ROUND": "20",
        "TRAINING__MIN_DATA_IN_LEAF": "50",
    }.items():
        monkeypatch.setenv(f"TRADING_{name}", value)
