"""Sources of numbers over the wire: what they answer is read, what is unfit is kept apart, the rest goes on."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_service import Answer, FakeService, as_json, fake_service

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError
from trading_pipelines.adapters.alternative.factory import datasets, open_dataset, open_sources
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.alternative.alternative_data import collect
from trading_pipelines.domain.alternative.series import MARKET, SERIES
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as service:
        yield service


@pytest.fixture
def settings(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Real sources, all of them at the service of the test."""
    fast: dict[str, Any] = {"interval_seconds": 0, "cache_seconds": 0, "base_url": service.url}
    chosen = {
        "coins": ["BTC", "ETH"],
        "timeout_seconds": 2,
        "fear_greed": fast,
        "coingecko": fast | {"community_coins": 1},
        "lunarcrush": fast | {"api_key": "sesame"},
        "derivatives": fast | {"binance_url": service.url},
        "rss": fast | {"feeds": {"paper": f"{service.url}/feed"}},
        "reddit": fast
        | {"login_url": service.url, "client_id": "me", "client_secret": "sesame", "subreddits": ["bitcoin"]},
    }
    monkeypatch.setenv("TRADING_ALTERNATIVE", json.dumps(chosen))
    return load_settings(source="ccxt", exchange="bybit", symbols=("BTCUSDT", "ETHUSDT"), data_dir=tmp_path)


def fetch(
    settings: Settings, dataset: str, since: datetime = NOW - DAY, until: datetime = NOW, number: int = 0
) -> Delivery[Any]:
    return open_dataset(settings, dataset)[number].fetch(since, until)


def values(delivery: Delivery[Any]) -> dict[tuple[str, str], float]:
    return {(row.series, row.coin): row.value for row in delivery.items}


def reasons(delivery: Delivery[Any]) -> list[str]:
    return [refused.reason for refused in delivery.refused]


def seconds(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def ms(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))


# Fear & Greed


def fear(*records: dict[str, Any], error: str | None = None) -> Answer:
    return as_json({"name": "Fear and Greed Index", "data": list(records), "metadata": {"error": error}})


def day(ago: int, value: Any = "40") -> dict[str, Any]:
    return {"value": value, "value_classification": "Fear", "timestamp": seconds(TODAY - ago * DAY)}


def test_fear_and_greed_of_today_is_known_since_now_and_older_values_as_they_were_published(
    service: FakeService, settings: Settings
) -> None:
    service.on("/fng/", fear(day(0, "41"), day(1, "42"), day(9, "43"), day(30, "44")))
    rows = fetch(settings, "fear_greed", TODAY - 10 * DAY).items
    assert [(row.value, row.coin, row.source) for row in rows] == [
        (41.0, MARKET, "alternative_me"),
        (42.0, MARKET, "alternative_me"),
        (43.0, MARKET, "alternative_me"),
    ]
    assert rows[0].available_at > NOW - HOUR
    assert rows[2].available_at == TODAY - 9 * DAY + HOUR
    assert len(service.asked) == 1


def test_whole_history_of_fear_and_greed_is_asked_for_when_the_recent_one_is_too_short(
    service: FakeService, settings: Settings
) -> None:
    service.on("/fng/", fear(day(0), day(1)), fear(*(day(ago) for ago in range(200))))
    assert len(fetch(settings, "fear_greed", TODAY - 100 * DAY).items) == 100
    assert [asked.query["limit"] for asked in service.asked] == ["60", "0"]


BAD_DAYS: list[tuple[Any, str]] = [
    (day(1, "-3"), "value is -3, not within 0 and 100"),
    (day(1, "NaN"), "value is nan"),
    (day(1, float("nan")), "value is nan"),
    (day(1, float("inf")), "value is inf"),
    (day(1, "<b>40</b>"), "value is no number"),
    (day(1, True), "value is no number"),
    (day(1, None), "lacks value"),
    ({"wert": "40", "timestamp": seconds(TODAY)}, "lacks value"),
    (day(-5), "timestamp is in the future"),
    ({"value": "40", "timestamp": "yesterday"}, "timestamp is no number"),
    ({"value": "40", "timestamp": "-1"}, "timestamp is no time since 2009"),
    ({"value": "40", "timestamp": "1e300"}, "timestamp is no time since 2009"),
    ("a string", "lacks timestamp"),
    ([1, 2], "lacks timestamp"),
    (None, "lacks timestamp"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_DAYS)
def test_unfit_value_is_refused_with_its_reason_and_the_others_count(
    service: FakeService, settings: Settings, bad: Any, reason: str
) -> None:
    service.on("/fng/", fear(day(0), bad, day(2), day(40)))
    delivery = fetch(settings, "fear_greed", TODAY - 3 * DAY)
    assert len(delivery.items) == 2
    assert [text.startswith(reason) for text in reasons(delivery)] == [True], reasons(delivery)


@pytest.mark.parametrize(
    "answer",
    [
        fear(error="Service overloaded"),
        as_json({"name": "Fear and Greed Index"}),
        as_json({"data": {"value": "40"}}),
        as_json([day(0)]),
        as_json(None),
        as_json("an error"),
        Answer(b"<html>We will be back soon</html>"),
        Answer(b""),
    ],
)
def test_error_inside_an_answer_of_200_fails_the_source(
    service: FakeService, settings: Settings, answer: Answer
) -> None:
    service.on("/fng/", answer)
    with pytest.raises(SourceError):
        fetch(settings, "fear_greed")


def test_every_unfit_value_ends_in_quarantine_and_the_others_are_stored(
    service: FakeService, settings: Settings, connection: Connection
) -> None:
    service.on("/fng/", fear(day(0), *(bad for bad, _ in BAD_DAYS), day(2), day(40)))
    (source,) = open_dataset(settings, "fear_greed")
    report = collect(connection, source, TODAY - 3 * DAY, NOW)
    assert (report.status, report.new) == ("OK", 2)
    assert connection.execute("select count(*) from observations").fetchone() == (2,)
    kept = [reason for (reason,) in connection.execute("select reason from quarantined_items")]
    assert all(any(text.startswith(reason) for text in kept) for _, reason in BAD_DAYS), kept


REFUSALS = {
    "fear_greed": {"/fng/": fear(error="Service overloaded")},
    "coin_metrics": {
        path: as_json({"status": {"error_code": 429, "error_message": "Service overloaded"}})
        for path in ("/global", "/search/trending", "/coins/markets")
    },
    "social_metrics": {
        f"/public/coins/{coin}/time-series/v2": as_json({"error": "Service overloaded"}) for coin in ("btc", "eth")
    },
    "derivatives_sentiment": {
        path: as_json({"retCode": 10006, "retMsg": "Service overloaded", "result": {}})
        for path in ("/v5/market/account-ratio", "/v5/market/tickers")
    },
}


@pytest.mark.parametrize("dataset", REFUSALS)
def test_answer_of_200_with_an_error_inside_is_kept_and_never_taken_for_nothing_new(
    service: FakeService, settings: Settings, connection: Connection, dataset: str
) -> None:
    for path, answer in REFUSALS[dataset].items():
        service.on(path, answer)
    report = collect(connection, open_dataset(settings, dataset)[0], NOW - DAY, NOW)
    assert (report.status, report.new, report.refused) == ("FAILING", 0, 1)
    assert "Service overloaded" in report.detail
    ((item, payload),) = connection.execute("select item, payload from quarantined_items").fetchall()
    assert item == "the whole answer"
    assert "Service overloaded" in payload


# CoinGecko


def on_coingecko(service: FakeService) -> None:
    service.on(
        "/global",
        as_json(
            {
                "data": {
                    "total_market_cap": {"usd": 2.5e12},
                    "market_cap_percentage": {"btc": 60.7},
                    "updated_at": int(NOW.timestamp()),
                }
            }
        ),
    )
    service.on(
        "/search/trending", as_json({"coins": [{"item": {"id": "x", "symbol": name}} for name in ("PEPE", "eth", "X")]})
    )
    service.on(
        "/coins/markets",
        as_json([market("bitcoin", "btc", 1.4e12), market("ethereum", "eth", 3e11), market("bitcoin-2", "btc", 5)]),
    )
    service.on("/coins/bitcoin", as_json({"id": "bitcoin", "sentiment_votes_up_percentage": 84.07}))


def market(identifier: str, symbol: str, worth: Any) -> dict[str, Any]:
    stated = NOW.replace(microsecond=0).isoformat().replace("+00:00", ".000Z")
    return {"id": identifier, "symbol": symbol, "market_cap": worth, "last_updated": stated}


def test_coingecko_tells_market_values_dominance_searches_and_votes(service: FakeService, settings: Settings) -> None:
    on_coingecko(service)
    delivery = fetch(settings, "coin_metrics")
    assert delivery.refused == ()
    assert values(delivery) == {
        ("market_cap_usd", MARKET): 2.5e12,
        ("btc_dominance", MARKET): 60.7,
        ("trending_place", "ETH"): 2,
        ("market_cap_usd", "BTC"): 1.4e12,
        ("market_cap_usd", "ETH"): 3e11,
        ("community_sentiment", "BTC"): 84.07,
    }
    assert all(row.ts <= row.available_at for row in delivery.items)


def test_pages_of_coingecko_that_fail_are_refused_and_the_others_count(
    service: FakeService, settings: Settings
) -> None:
    on_coingecko(service)
    service.on("/global", as_json({"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit"}}))
    service.on("/search/trending", Answer(status=404))
    service.on(
        "/coins/markets", as_json([market("bitcoin", "btc", -5), market("ethereum", "eth", 3e11), {"id": "x"}, None])
    )
    service.on("/coins/ethereum", as_json({"votes": 3}))
    service.on("/coins/bitcoin", as_json({"sentiment_votes_up_percentage": "NaN"}))
    delivery = fetch(settings, "coin_metrics")
    assert values(delivery) == {("market_cap_usd", "ETH"): 3e11}
    found = " | ".join(reasons(delivery))
    for reason in (
        "exceeded the Rate Limit",
        "404",
        "market_cap is -5",
        "lacks symbol",
        "sentiment_votes_up_percentage is nan",
    ):
        assert reason in found


def test_name_of_a_coin_cannot_lead_to_another_page(service: FakeService, settings: Settings) -> None:
    on_coingecko(service)
    service.on("/coins/markets", as_json([market("../../admin?x=", "btc", 1e12)]))
    fetch(settings, "coin_metrics")
    assert {path for path in service.paths() if "admin" in path or path.endswith("..")} == set()


def test_coingecko_without_any_answer_fails(settings: Settings) -> None:
    with pytest.raises(SourceError, match="404"):
        fetch(settings, "coin_metrics")


# LunarCrush


def hour(ago: int, **changes: Any) -> dict[str, Any]:
    moment = NOW.replace(minute=0, second=0, microsecond=0) - ago * HOUR
    return {
        "time": int(moment.timestamp()),
        "galaxy_score": 64,
        "posts_active": 1200,
        "social_dominance": 2.5,
    } | changes


def test_lunarcrush_is_asked_per_coin_with_its_key(service: FakeService, settings: Settings) -> None:
    service.on("/public/coins/btc/time-series/v2", as_json({"data": [hour(2), hour(1)]}))
    service.on("/public/coins/eth/time-series/v2", as_json({"error": "unknown coin"}))
    delivery = fetch(settings, "social_metrics")
    assert values(delivery) == {
        ("galaxy_score", "BTC"): 64,
        ("social_volume", "BTC"): 1200,
        ("social_dominance", "BTC"): 2.5,
    }
    assert len(delivery.items) == 6
    assert reasons(delivery) == ["lunarcrush answers for ETH with an error: unknown coin"]
    assert {asked.headers["authorization"] for asked in service.asked} == {"Bearer sesame"}


def test_hour_with_a_missing_or_impossible_figure_is_refused_whole(service: FakeService, settings: Settings) -> None:
    service.on(
        "/public/coins/btc/time-series/v2",
        as_json(
            {
                "data": [
                    hour(0),  # in progress
                    hour(3),
                    hour(2, galaxy_score=None),
                    hour(1, posts_active=-7),
                    hour(4, social_dominance=250),
                ]
            }
        ),
    )
    service.on("/public/coins/eth/time-series/v2", as_json({"data": []}))
    delivery = fetch(settings, "social_metrics")
    assert len(delivery.items) == 3
    assert [text.split(",")[0] for text in reasons(delivery)] == [
        "lacks galaxy_score",
        "posts_active is -7",
        "social_dominance is 250",
    ]


# Bybit and Binance


def bybit(records: list[Any], code: int = 0, told: str = "OK") -> Answer:
    return as_json({"retCode": code, "retMsg": told, "result": {"list": records}, "time": int(NOW.timestamp() * 1000)})


def test_bybit_tells_the_share_of_long_accounts_and_the_open_interest(service: FakeService, settings: Settings) -> None:
    record = {"symbol": "BTCUSDT", "buyRatio": "0.6", "sellRatio": "0.4", "timestamp": ms(NOW - 2 * HOUR)}
    service.on("/v5/market/account-ratio", bybit([record]))
    service.on("/v5/market/tickers", bybit([{"symbol": "BTCUSDT", "openInterestValue": "1e9"}]))
    delivery = fetch(settings, "derivatives_sentiment")
    assert values(delivery)["long_short_ratio", "ETH"] == pytest.approx(1.5)
    assert values(delivery)["open_interest_usd", "BTC"] == 1e9
    assert service.asked[0].query["symbol"] == "BTCUSDT"


@pytest.mark.parametrize(
    "answer",
    [bybit([], 10001, "params error"), as_json({"retCode": 0}), as_json({"retCode": "0", "result": None}), as_json([])],
)
def test_refusal_of_bybit_inside_an_answer_of_200_fails_it(
    service: FakeService, settings: Settings, answer: Answer
) -> None:
    service.on("/v5/market/account-ratio", answer)
    service.on("/v5/market/tickers", answer)
    with pytest.raises(SourceError):
        fetch(settings, "derivatives_sentiment")


def test_binance_tells_of_hours_that_have_ended(service: FakeService, settings: Settings) -> None:
    full = NOW.replace(minute=0, second=0, microsecond=0)
    service.on("/futures/data/openInterestHist", as_json([{"sumOpenInterestValue": "15e7", "timestamp": ms(full)}]))
    service.on(
        "/futures/data/globalLongShortAccountRatio",
        as_json(
            [
                {"longAccount": "0.75", "shortAccount": "0.25", "timestamp": ms(full)},
                {"longAccount": "1", "shortAccount": "0", "timestamp": ms(full)},
            ]
        ),
    )
    service.on(
        "/futures/data/takerlongshortRatio",
        as_json(
            [{"buySellRatio": "1.5", "timestamp": ms(full)}, {"buySellRatio": "1.2", "timestamp": ms(full - HOUR)}]
        ),
    )
    delivery = fetch(settings, "derivatives_sentiment", number=1)
    assert values(delivery)["taker_buy_sell_ratio", "BTC"] == 1.2
    assert values(delivery)["long_short_ratio", "BTC"] == 3.0
    assert values(delivery)["open_interest_usd", "BTC"] == 1.5e8
    assert reasons(delivery) == ["nobody is short"] * 2


def test_binance_is_never_asked_about_more_than_it_keeps(service: FakeService, settings: Settings) -> None:
    for path in ("openInterestHist", "globalLongShortAccountRatio", "takerlongshortRatio"):
        service.on(f"/futures/data/{path}", as_json([]))
    fetch(settings, "derivatives_sentiment", NOW - 200 * DAY, number=1)
    assert min(int(asked.query["startTime"]) for asked in service.asked) >= (NOW - 30 * DAY).timestamp() * 1000


# All


def test_source_without_its_key_says_which_variable_to_set(settings: Settings) -> None:
    alternative = settings.alternative
    bare = settings.model_copy(
        update={
            "alternative": alternative.model_copy(
                update={
                    "lunarcrush": alternative.lunarcrush.model_copy(update={"api_key": None}),
                    "reddit": alternative.reddit.model_copy(update={"client_id": None}),
                }
            )
        }
    )
    with pytest.raises(NotConfiguredError, match="TRADING_ALTERNATIVE__LUNARCRUSH__API_KEY"):
        fetch(bare, "social_metrics")
    with pytest.raises(NotConfiguredError, match="TRADING_ALTERNATIVE__REDDIT__CLIENT_ID"):
        fetch(bare, "posts")


def test_no_source_of_outside_is_built_for_the_simulated_market_or_an_archive(tmp_path: Path) -> None:
    simulated = open_sources(load_settings(data_dir=tmp_path))
    assert {source.name.split("_")[0] for found in simulated.values() for source in found} == {"simulated"}
    archive = load_settings(source="archive", exchange="bybit", archive_dir=tmp_path, data_dir=tmp_path)
    assert set(open_sources(archive).values()) == {()}


def test_keys_appear_in_no_representation_of_the_settings(settings: Settings) -> None:
    assert "sesame" not in repr(settings)


def test_every_dataset_has_sources_in_both_worlds(settings: Settings) -> None:
    assert all(open_dataset(settings, dataset) for dataset in datasets())
    assert all(open_dataset(load_settings(), dataset) for dataset in datasets())


@pytest.mark.real_data
def test_recorded_fear_and_greed_is_read_whole(service: FakeService, settings: Settings, real_data_dir: Path) -> None:
    recorded = (real_data_dir / "api_samples/alternative_me/fng_limit30.RECONSTRUCTED.json").read_bytes()
    service.on("/fng/", Answer(recorded))
    delivery = fetch(settings, "fear_greed", datetime(2025, 1, 1, tzinfo=UTC))
    assert (len(delivery.items), delivery.refused) == (30, ())
    assert all(row.available_at == SERIES["fear_greed"].known_at(row.ts) for row in delivery.items)


@pytest.mark.real_data
def test_recorded_pages_of_coingecko_are_read(service: FakeService, settings: Settings, real_data_dir: Path) -> None:
    pages = {
        "/global": "GetGlobalData",
        "/search/trending": "GetTrendingSearches",
        "/coins/markets": "GetMarkets",
        "/coins/bitcoin": "GetAssetDetails",
    }
    for path, name in pages.items():
        recorded = json.loads((real_data_dir / f"api_samples/coingecko_jkorf/{name}.json").read_text())
        service.on(path, as_json(recorded["response"]))
    delivery = fetch(settings, "coin_metrics")
    assert delivery.refused == ()
    assert values(delivery)["btc_dominance", MARKET] == pytest.approx(60.7086, abs=1e-4)
    assert values(delivery)["trending_place", "BTC"] == 5
    assert values(delivery)["market_cap_usd", "BTC"] == 1381651251183
    assert values(delivery)["community_sentiment", "BTC"] == 84.07


@pytest.mark.real_data
def test_recorded_positions_of_both_exchanges_are_read(
    service: FakeService, settings: Settings, real_data_dir: Path
) -> None:
    folder = real_data_dir / "api_samples"
    recorded = json.loads((folder / "bybit_jkorf/V5Api/ExchangeData/GetLongShortRatio.json").read_text())
    service.on("/v5/market/account-ratio", as_json(recorded["response"]))
    quoted = json.loads((folder / "bybit_jkorf/V5Api/ExchangeData/GetLinearInverseTickers.json").read_text())
    service.on("/v5/market/tickers", as_json(quoted["response"]))
    delivery = fetch(settings, "derivatives_sentiment", datetime(2022, 1, 1, tzinfo=UTC))
    assert delivery.refused == ()
    assert values(delivery)["open_interest_usd", "BTC"] == 22505.67
    assert values(delivery)["long_short_ratio", "BTC"] == pytest.approx(0.5777 / 0.4223)
    for name, path in (
        ("GetOpenInterestHistory", "openInterestHist"),
        ("GetGlobalLongShortAccountRatio", "globalLongShortAccountRatio"),
        ("GetTakerBuySellVolumeRatio", "takerlongshortRatio"),
    ):
        file = folder / f"binance_jkorf/UsdFutures/ExchangeData/{name}.json"
        service.on(f"/futures/data/{path}", as_json(json.loads(file.read_text())["response"]))
    of_then = fetch(
        settings, "derivatives_sentiment", datetime(2020, 3, 1, tzinfo=UTC), datetime(2020, 3, 29, tzinfo=UTC), 1
    )
    assert of_then.refused == ()
    assert values(of_then)["open_interest_usd", "BTC"] == pytest.approx(149940752.14)
    assert values(of_then)["long_short_ratio", "BTC"] == pytest.approx(0.6617 / 0.3382)
    assert values(of_then)["taker_buy_sell_ratio", "BTC"] == 1.3104
