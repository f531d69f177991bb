"""Recorded files of alternative data: what they hold, when it was known, and what is refused."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.adapters.alternative.archive import FILES, read_history
from trading_pipelines.adapters.alternative.archive_texts import TEXTS
from trading_pipelines.application.alternative.history import load_history
from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
from trading_pipelines.domain.alternative.series import Observation
from trading_pipelines.domain.alternative.texts import TextItem
from trading_pipelines.errors import UserError
from trading_pipelines.settings import SentimentSettings
from trading_pipelines.store.connection import Connection

DAY = datetime(2024, 3, 4, tzinfo=UTC)
NOW = datetime(2025, 1, 1, tzinfo=UTC)
FEAR, ONCHAIN, FUNDS, INTEREST, FUNDING, FLOW = (file.file for file in FILES)


def _write(folder: Path, name: str, rows: Mapping[str, object]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def _items(folder: Path) -> list[Observation]:
    return [item for _, delivery in read_history(folder) for item in delivery.items if isinstance(item, Observation)]


def _texts(folder: Path) -> list[TextItem]:
    return [item for _, delivery in read_history(folder) for item in delivery.items if isinstance(item, TextItem)]


def test_an_index_is_known_an_hour_after_the_day_it_is_stamped_with_has_begun(tmp_path: Path) -> None:
    _write(tmp_path, FEAR, {"ts": [DAY], "value": [71]})
    assert _items(tmp_path) == [
        Observation("fear_greed", "MARKET", "alternative_me", DAY, DAY + timedelta(hours=1), 71.0)
    ]


def test_a_figure_of_a_day_is_not_known_on_that_day(tmp_path: Path) -> None:
    _write(
        tmp_path, ONCHAIN, {"metric": ["exchange_reserves", "BTC_dominance"], "ts": [DAY, DAY], "value": [2e6, 51.0]}
    )
    reserve, dominance = _items(tmp_path)
    assert (reserve.ts, reserve.available_at) == (DAY, DAY + timedelta(days=1, hours=6))
    assert (dominance.ts, dominance.available_at) == (DAY + timedelta(days=1), DAY + timedelta(days=1))


def test_daily_funding_is_known_when_the_day_after_its_stamp_has_ended(tmp_path: Path) -> None:
    _write(tmp_path, FUNDING, {"ts": [DAY], "asset_id": ["SOL"], "funding_rate": [0.0001]})
    (rate,) = _items(tmp_path)
    assert (rate.ts, rate.available_at) == (DAY + timedelta(days=1), DAY + timedelta(days=2))


def test_funds_are_in_dollars_and_have_no_row_on_a_weekend(tmp_path: Path) -> None:
    _write(
        tmp_path,
        FUNDS,
        {
            "ts": [DAY, DAY + timedelta(days=1)],
            "stablecoin_mcap_usd": [1.4e11, 1.41e11],
            "btc_etf_net_flow_usd_mn": [428.9, np.nan],
            "eth_etf_net_flow_usd_mn": [-23.6, np.nan],
        },
    )
    flows = [(item.coin, item.value) for item in _items(tmp_path) if item.series == "etf_netflow_usd"]
    assert flows == [("BTC", 428.9e6), ("ETH", -23.6e6)]


def test_taker_flow_is_a_share_of_what_was_traded(tmp_path: Path) -> None:
    _write(tmp_path, FLOW, {"symbol": ["1000PEPEUSDT"], "ts": [DAY], "taker_buy_vol": [75.0], "taker_sell_vol": [25.0]})
    (flow,) = _items(tmp_path)
    assert (flow.coin, flow.value, flow.available_at) == ("PEPE", 0.5, DAY + timedelta(hours=1))


def test_bad_rows_are_quarantined_with_their_reason_and_the_rest_goes_on(
    tmp_path: Path, connection: Connection
) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    _write(tmp_path, FEAR, {"ts": [*days, days[0], pd.NaT], "value": [50.0, 101.0, np.inf, 40.0, 51.0, 60.0]})
    (loaded,) = load_history(connection, tmp_path, NOW)
    assert (loaded.found, loaded.new, loaded.refused) == (2, 2, 4)
    reasons = connection.execute("select reason from quarantined_items order by 1").fetchall()
    assert [reason for (reason,) in reasons] == [
        "a second value of the same time",
        "no finite number",
        "no readable time",
        "outside 0 ... 100",
    ]
    assert load_history(connection, tmp_path, NOW)[0].new == 0


def test_a_file_without_its_columns_is_named(tmp_path: Path) -> None:
    _write(tmp_path, INTEREST, {"when": [DAY]})
    with pytest.raises(UserError, match=r"btc_daily_coinglass\.parquet cannot be read"):
        _items(tmp_path)


def test_a_folder_with_nothing_to_load_says_what_it_looks_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds none of the recorded files: sentiment_index/fear_greed"):
        _items(tmp_path)


def test_a_text_is_known_since_its_stamp_and_one_of_a_day_since_its_end(tmp_path: Path) -> None:
    stamp = DAY + timedelta(hours=7)
    _write(
        tmp_path, "text/crypto_news_model_sentiment.parquet", {"ts": [stamp], "headline": ["Up"], "description": ["a"]}
    )
    _write(tmp_path, "text/bitcoin_news_yahoo.parquet", {"ts": [DAY], "short": ["Down"], "description": [None]})
    exact, daily = _texts(tmp_path)
    assert (exact.title, exact.body, exact.published_at, exact.available_at) == ("Up", "a", stamp, stamp)
    assert (daily.title, daily.body, daily.available_at) == ("Down", "", DAY + timedelta(days=1))


def test_a_long_text_without_a_title_begins_with_one(tmp_path: Path) -> None:
    words = "Bitcoin rises again and " * 40
    _write(tmp_path, "text/bitcoin_tweets.parquet", {"ts": [DAY, DAY], "text": [words, "Bitcoin"]})
    long, short = _texts(tmp_path)
    assert len(long.title) <= 200
    assert long.body.startswith(long.title)
    assert (short.title, short.body) == ("Bitcoin", "")


def test_recorded_texts_are_stored_once_and_become_a_sentiment_of_their_time(
    tmp_path: Path, connection: Connection
) -> None:
    rows = {
        "ts": [DAY, DAY + timedelta(hours=1), pd.NaT, DAY],
        "headline": ["Bitcoin soars to a record high", "<b></b>", "Ether", "Bitcoin soars to a record high"],
        "description": ["", "x", "y", ""],
    }
    _write(tmp_path, "text/crypto_news_model_sentiment.parquet", rows)
    (loaded,) = load_history(connection, tmp_path, NOW)
    assert (loaded.found, loaded.new, loaded.refused, loaded.series) == (2, 1, 2, {"news": 2})
    assert load_history(connection, tmp_path, NOW)[0].new == 0
    reasons = {reason for (reason,) in connection.execute("select reason from quarantined_items")}
    assert reasons == {"has no title", "no readable time"}
    chosen = SentimentSettings()
    update_sentiment(
        connection,
        open_readers(chosen),
        NOW,
        simulated=False,
        start=DAY,
        end=DAY + timedelta(days=2),
        spec=chosen.aggregation,
        alerts=chosen.alerts,
    )
    stored = connection.execute(
        "select min(available_at), max(available_at), min(value) > 0 from observations where series = 'sentiment' "
        "and coin = 'BTC'"
    ).fetchone()
    assert stored == (DAY + timedelta(minutes=30), DAY + timedelta(days=2), True)
    assert connection.execute("select count(*) from events").fetchone() == (0,)


@pytest.mark.real_data
def test_recorded_history_loads_whole_and_nothing_is_known_before_it_happened(real_data_dir: Path) -> None:
    found = {file.file: delivery for file, delivery in read_history(real_data_dir)}
    assert set(found) == {file.file for file in (*FILES, *TEXTS)}
    assert all(item.available_at >= item.ts for file in FILES for item in found[file.file].items)
    assert {file: len(delivery.refused) for file, delivery in found.items() if delivery.refused} == {}
    assert sum(len(found[file.file].items) for file in TEXTS) == 5021
    assert all(
        item.available_at.time() == time.min for file in TEXTS if file.precision for item in found[file.file].items
    )
    assert len(found[FEAR].items) == 2795
