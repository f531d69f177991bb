"""Every mistake that a user can make ends in one clear line and exit code 2; a defect in one line and exit code 1."""

from pathlib import Path

import pandas as pd
import psycopg
import pytest
from command_line import Run


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "archive"
    (folder / "bybit" / "BTCUSDT").mkdir(parents=True)
    monkeypatch.setenv("TRADING_ARCHIVE_DIR", str(folder))
    return folder


def test_wrong_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_RISK__MAX_OPEN_POSITIONS", "many")
    outcome = run("status")
    assert outcome.code == 2
    assert outcome.err.startswith("error: TRADING_RISK__MAX_OPEN_POSITIONS: ")
    assert outcome.err.endswith("(given: 'many')\n")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_two_wrong_settings_are_two_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_RISK__MAX_OPEN_POSITIONS", "0")
    monkeypatch.setenv("TRADING_LOG_LEVEL", "LOUD")
    outcome = run("status")
    assert outcome.code == 2
    assert [line.split(":")[1].strip() for line in sorted(outcome.err.splitlines())] == [
        "TRADING_LOG_LEVEL",
        "TRADING_RISK__MAX_OPEN_POSITIONS",
    ]


def test_mistyped_setting_is_refused_with_the_nearest_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_SYMBOL", "BTCUSDT")
    outcome = run("status")
    assert (outcome.code, outcome.err) == (
        2,
        "error: TRADING_SYMBOL: no such setting; did you mean TRADING_SYMBOLS?\n",
    )


def test_missing_archive_folder_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_ARCHIVE_DIR", str(tmp_path / "nowhere"))
    outcome = run("ingest", "--source", "archive", "--exchange", "bybit")
    assert outcome.code == 2
    assert outcome.err == f"error: TRADING_ARCHIVE_DIR: there is no folder {tmp_path / 'nowhere'}\n"


def write_candles(file: Path, days: int) -> None:
    ts = pd.date_range("2025-01-01", periods=96 * days, freq="15min", tz="UTC")
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 100.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"ts": ts, **prices}).to_parquet(file)


def test_corrupt_file_is_named_and_the_others_are_stored(run: Run, on_database: str, archive: Path) -> None:
    write_candles(archive / "bybit" / "ETHUSDT" / "15m.parquet", days=1)
    (archive / "bybit" / "BTCUSDT" / "15m.parquet").write_bytes(b"this is no parquet")
    outcome = run(
        *("ingest", "--source", "archive", "--exchange", "bybit", "--timeframe", "15m"),
        *("--from", "2025-01-01", "--json"),
    )
    assert outcome.code == 2
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: BTCUSDT: ")
    assert outcome.err.count("15m.parquet") == 1
    assert "BTCUSDT/15m.parquet" in line
    assert "Traceback" not in outcome.err
    assert outcome.json["inserted"] == 96


def test_archive_that_ends_before_the_range_says_when(run: Run, archive: Path) -> None:
    write_candles(archive / "bybit" / "BTCUSDT" / "15m.parquet", days=1)
    outcome = run(
        *("ingest", "--source", "archive", "--exchange", "bybit", "--timeframe", "15m"), *("--from", "2025-03-01")
    )
    assert (outcome.code, outcome.err) == (
        2,
        "error: archive bybit has nothing after 2025-01-02 00:00: choose an earlier --from\n",
    )


def test_unknown_symbol_is_refused_before_anything_is_stored(run: Run, small_market: None) -> None:
    outcome = run("ingest", "--symbols", "BTCUSD")
    assert outcome.code == 2
    assert outcome.err.startswith("error: TRADING_SYMBOLS: simulated simulated has no BTCUSD; did you mean BTCUSDT or ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ingest", "--symbols", "BTC/USDT"), "--symbols: 'BTC/USDT' is no symbol like BTCUSDT"),
        (("ingest", "--timeframe", "7m"), "TRADING_BASE_TIMEFRAME: no timeframe 7m; use 1m, 5m, 15m, 1h, 4h, 1d"),
        (("train", "--timeframe", "7m"), "--timeframe: no timeframe '7m'; use 1m, 5m, 15m, 1h, 4h or 1d"),
        (
            ("session", "create", "My Session"),
            "'My Session' is no name of a session: use at most 40 lower-case letters, digits, - and _, for example "
            "swing-2",
        ),
        (
            ("replay", "--from", "yesterday", "--to", "2025-01-01"),
            "--from: 'yesterday' is no date like 2025-07-01 and no time like 2025-07-01T12:00Z",
        ),
        (
            ("replay", "--from", "2025-02-01", "--to", "2025-01-01"),
            "--from 2025-02-01 00:00 is not before --to 2025-01-01 00:00",
        ),
        (
            ("train", "--from", "2025-01-01", "--to", "2025-01-20"),
            "--from leaves -11 days to train on, at least 7 are needed: start earlier or lower TRADING_TRAINING__FOLDS",
        ),
    ],
)
def test_wrong_argument_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (2, f"error: {message}\n")


@pytest.mark.parametrize("command", [("train",), ("replay", "--from", "2025-01-01", "--to", "2025-02-01")])
def test_nothing_stored_says_what_to_run_first(run: Run, on_database: str, command: tuple[str, ...]) -> None:
    outcome = run(*command, "--exchange", "bybit")
    assert outcome.code == 2
    assert outcome.err == "error: nothing is stored for bybit: run `trading ingest --exchange bybit` first\n"


def test_unreachable_database_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", "postgresql://nobody:geheim@127.0.0.1:1/trading")
    outcome = run("train")
    assert outcome.code == 2
    assert "127.0.0.1:1" in outcome.err
    assert "geheim" not in outcome.err
    assert outcome.err.count("\n") == 1


def test_data_folder_that_cannot_be_written_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path / "file"))
    outcome = run("status")
    assert outcome.code == 2
    assert outcome.err == f"error: TRADING_DATA_DIR: {tmp_path / 'file'} cannot be used: Not a directory\n"


def break_schema(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table instruments rename to gone")


def test_defect_is_one_line_and_the_rest_is_in_the_log(run: Run, on_database: str, tmp_path: Path) -> None:
    break_schema(on_database)
    outcome = run("train")
    log = tmp_path / "data" / "logs" / "cli.log"
    assert outcome.code == 1
    assert outcome.err.startswith("error: UndefinedTable: ")
    assert outcome.err.endswith(f"(see {log})\n")
    assert outcome.err.count("\n") == 1
    assert "Traceback" in log.read_text()


def test_debug_shows_the_traceback(run: Run, on_database: str) -> None:
    break_schema(on_database)
    outcome = run("--debug", "train")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


def test_up_on_a_taken_port_names_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setenv("TRADING_PORTS__DAGSTER", str(port))
        outcome = run("up")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == f"error: port {port} is taken: set TRADING_PORTS__DAGSTER to a free one"
