"""Which source the settings give, and one clear line for each mistake in them."""

from pathlib import Path

import pandas as pd
import pytest

from trading_pipelines.adapters.sources import choose_instruments, choose_timeframe, open_source
from trading_pipelines.adapters.sources.archive import ArchiveSource
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    files = ("bybit/BTCUSDT/5m", "bybit/BTCUSDT/15m", "bybit/SOLUSDT/15m", "binance/BTCUSDT/1h", "bybit/XRPUSDT/1d")
    ts = pd.date_range("2024-01-01", periods=2, freq="1D", tz="UTC")
    for name in files:
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
        pd.DataFrame({"ts": ts, **numbers}).to_parquet(path)
    return tmp_path


def test_simulated_market_is_the_default_and_offers_the_symbols_of_its_settings() -> None:
    source = open_source(load_settings())
    assert source.name == "simulated"
    assert [i.symbol for i in choose_instruments(source, ())] == list(load_settings().simulation.symbols)
    assert choose_timeframe(source, ("BTCUSDT",)) is Timeframe.M5


def test_archive_needs_a_folder() -> None:
    with pytest.raises(UserError, match="TRADING_ARCHIVE_DIR: name the folder"):
        open_source(load_settings(source="archive"))


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"TRADING_ARCHIVE_DIR: there is no folder {tmp_path}/nowhere"):
        open_source(load_settings(source="archive", archive_dir=tmp_path / "nowhere"))


def test_folder_without_candles_is_named_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TRADING_ARCHIVE_DIR: .* holds no <exchange>/<SYMBOL>/<timeframe>.parquet"):
        open_source(load_settings(source="archive", archive_dir=tmp_path))


@pytest.mark.parametrize(
    ("exchange", "hint"),
    [("bibyt", "did you mean bybit"), ("simulated", "it has binance, bybit"), ("kraken", "it has binance, bybit")],
)
def test_exchange_that_the_archive_lacks_is_answered_with_those_it_has(archive: Path, exchange: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"TRADING_EXCHANGE: .* no candles of {exchange}; {hint}"):
        open_source(load_settings(source="archive", archive_dir=archive, exchange=exchange))


def test_exchange_beside_the_simulated_source_is_a_contradiction() -> None:
    with pytest.raises(UserError, match=r"TRADING_EXCHANGE: .* leave it unset"):
        open_source(load_settings(exchange="bybit"))


def test_unknown_symbol_is_answered_with_near_names(archive: Path) -> None:
    source = ArchiveSource(archive, "bybit")
    with pytest.raises(UserError, match="TRADING_SYMBOLS: archive bybit has no SOLUSD; did you mean SOLUSDT"):
        choose_instruments(source, ("BTCUSDT", "SOLUSD"))


def test_unknown_symbol_without_a_near_name_is_answered_with_the_list(archive: Path) -> None:
    with pytest.raises(UserError, match="has no QQQ; it has BTCUSDT, SOLUSDT, XRPUSDT"):
        choose_instruments(ArchiveSource(archive, "bybit"), ("QQQ",))


def test_symbols_keep_the_order_in_which_they_were_named(archive: Path) -> None:
    chosen = choose_instruments(ArchiveSource(archive, "bybit"), ("SOLUSDT", "BTCUSDT"))
    assert [i.symbol for i in chosen] == ["SOLUSDT", "BTCUSDT"]


def test_all_symbols_means_those_with_the_timeframe(archive: Path) -> None:
    chosen = choose_instruments(ArchiveSource(archive, "bybit"), (), Timeframe.M15)
    assert [i.symbol for i in chosen] == ["BTCUSDT", "SOLUSDT"]


def test_finest_shared_timeframe_is_chosen_unless_one_is_named(archive: Path) -> None:
    source = ArchiveSource(archive, "bybit")
    assert choose_timeframe(source, ("BTCUSDT",)) is Timeframe.M5
    assert choose_timeframe(source, ("BTCUSDT", "SOLUSDT")) is Timeframe.M15
    assert choose_timeframe(source, ("BTCUSDT",), "15m") is Timeframe.M15


def test_missing_timeframe_is_answered_with_those_that_exist(archive: Path) -> None:
    source = ArchiveSource(archive, "bybit")
    with pytest.raises(UserError, match=r"TRADING_BASE_TIMEFRAME: .* no 1h candles of BTCUSDT; it has 5m, 15m"):
        choose_timeframe(source, ("BTCUSDT",), "1h")
    with pytest.raises(UserError, match="TRADING_BASE_TIMEFRAME: no timeframe 7m; use 1m, 5m, 15m, 1h, 4h, 1d"):
        choose_timeframe(source, ("BTCUSDT",), "7m")


def test_symbols_without_a_shared_timeframe_are_listed_with_theirs(archive: Path) -> None:
    with pytest.raises(UserError, match="BTCUSDT has 5m, 15m; XRPUSDT has 1d"):
        choose_timeframe(ArchiveSource(archive, "bybit"), ("BTCUSDT", "XRPUSDT"))
