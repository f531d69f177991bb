"""Whale Alert, CryptoQuant, Dune and Polymarket against a server on 127.0.0.1: paging, keys, hostile answers."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_service import Answer, Asked, FakeService, as_json, fake_service

from trading_pipelines.adapters.alternative.base import NotConfiguredError
from trading_pipelines.adapters.alternative.cryptoquant import CryptoQuant
from trading_pipelines.adapters.alternative.dune import Dune
from trading_pipelines.adapters.alternative.polymarket import Polymarket
from trading_pipelines.adapters.alternative.whale_alert import PAGE, WhaleAlert
from trading_pipelines.adapters.http import HttpClient, HttpPolicy
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.retry import RetryPolicy
from trading_pipelines.application.alternative.alternative_data import collect
from trading_pipelines.application.alternative.odds import follow_up
from trading_pipelines.domain.onchain.transactions import FlowDirection, FlowThresholds, OwnerKind
from trading_pipelines.domain.prediction_markets.markets import (
    MarketKind,
    MarketOdds,
    MarketStatus,
    OddsPolicy,
    PredictionMarket,
)
from trading_pipelines.store.connection import Connection

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEY = "secret-of-mine"
LISTED = {"address": "1CC", "owner_type": "unknown"}
"""An owner that the settings of these tests list as a whale."""


@pytest.fixture
def service() -> Iterator[FakeService]:
    """A server of this test's own."""
    with fake_service() as served:
        yield served


def client(service: FakeService) -> HttpClient:
    policy = HttpPolicy(timeout_seconds=5, retry=RetryPolicy(attempts=1))
    return HttpClient("test", policy, base_url=service.url)


def transaction(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A transaction as Whale Alert writes one."""
    return {
        "blockchain": "bitcoin",
        "symbol": "btc",
        "id": str(number),
        "transaction_type": "transfer",
        "hash": f"{number:064x}",
        "from": {"address": "1aa", "owner_type": "unknown"},
        "to": {"address": "1bb", "owner_type": "exchange", "owner": "binance"},
        "timestamp": int((NOW - timedelta(minutes=5)).timestamp()),
        "amount": 40.0,
        "amount_usd": 2_600_000.0,
        "transaction_count": 1,
        **changes,
    }


def answered(*transactions: Any, cursor: str = "c1") -> Answer:
    return as_json({"result": "success", "cursor": cursor, "count": len(transactions), "transactions": transactions})


def whale_alert(service: FakeService, key: str | None = KEY, **changes: Any) -> WhaleAlert:
    return WhaleAlert(client(service), key, FlowThresholds(whales=("1cc",)), clock=lambda: NOW, **changes)


def test_whale_alert_pages_by_cursor_and_sends_its_key_in_a_header(service: FakeService) -> None:
    service.on(
        "/transactions",
        answered(*(transaction(n) for n in range(PAGE)), cursor="c1"),
        answered(transaction(PAGE), cursor="c2"),
    )

    delivery = whale_alert(service).fetch(NOW - HOUR, NOW)

    assert len(delivery.items) == PAGE + 1
    assert [asked.query.get("cursor") for asked in service.asked] == [None, "c1"]
    assert {asked.headers["x-wa-api-key"] for asked in service.asked} == {KEY}
    assert all(KEY not in json.dumps(asked.query) for asked in service.asked)
    assert service.asked[0].query["min_value"] == "500000"


def test_whale_alert_classifies_both_ends_and_leaves_small_ones_out(service: FakeService) -> None:
    service.on(
        "/transactions",
        answered(
            transaction(1),
            transaction(2, **{"from": {"address": "x", "owner_type": "exchange"}}, to=LISTED),
            transaction(3, amount_usd=900_000.0),
            transaction(4, symbol="sol", amount_usd=900_000.0, to={"address": "y", "owner_type": "fund", "owner": "F"}),
            transaction(5, symbol="wbtc"),
        ),
    )

    items = {item.transaction_id: item for item in whale_alert(service).fetch(NOW - HOUR, NOW).items}

    assert sorted(items) == ["1", "2", "4", "5"]
    assert [items[n].direction for n in "124"] == [FlowDirection.INFLOW, FlowDirection.OUTFLOW, FlowDirection.TRANSFER]
    assert items["2"].recipient_kind is OwnerKind.WHALE
    assert items["4"].recipient_kind is OwnerKind.WHALE
    assert items["5"].coin == "BTC"
    assert items["1"].recipient == "binance"
    assert items["1"].available_at == NOW


def test_whale_alert_asks_no_further_back_than_its_plan_goes(service: FakeService) -> None:
    service.on("/transactions", answered())
    whale_alert(service).fetch(NOW - DAY, NOW)
    assert int(service.asked[0].query["start"]) == int((NOW - timedelta(minutes=59)).timestamp())


BROKEN = {
    "NaN": (transaction(9, amount_usd="NaN"), "amount_usd is nan"),
    "negative": (transaction(9, amount=-5.0), "amount is -5"),
    "negative value": (transaction(9, amount_usd=-5e7), "amount_usd is"),
    "renamed": ({k.replace("amount_usd", "usd"): v for k, v in transaction(9).items()}, "lacks amount_usd"),
    "future": (transaction(9, timestamp=int((NOW + DAY).timestamp())), "in the future"),
    "no owner": (transaction(9, to=None), "lacks to"),
    "huge": (transaction(9, amount="1e999"), "amount is inf"),
    "true": (transaction(9, amount_usd=True), "amount_usd is no number"),
    "control characters": (transaction(9, symbol="b\x00tc"), "is no name"),
    "owner with nul": (transaction(9, to={"owner_type": "exchange", "owner": "bin\x00ance"}), "to.owner is no name"),
    "half a letter": (transaction(9, id="9\ud800"), "id is no name"),
    "text": ("transaction", "lacks"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_transaction_is_quarantined_with_its_reason_and_the_rest_goes_on(
    service: FakeService, connection: Connection, name: str
) -> None:
    broken, reason = BROKEN[name]
    service.on("/transactions", answered(transaction(1), broken, transaction(1), transaction(2)))

    report = collect(connection, whale_alert(service), NOW - HOUR, NOW, now=NOW)

    assert (report.status, report.new, report.refused) == ("OK", 2, 1)
    row = connection.execute("select source, reason from quarantined_items").fetchone()
    assert row is not None
    assert row[0] == "whale_alert"
    assert reason in row[1]
    again = collect(connection, whale_alert(service), NOW - HOUR, NOW, now=NOW)
    assert (again.new, again.refused) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        as_json({"result": "error", "message": "invalid api_key"}),
        as_json({"result": "success", "transactions": {"a": 1}}),
        as_json([]),
        Answer(b"<html>"),
        Answer(b"", status=500),
    ],
    ids=["error inside", "no list", "no object", "no json", "500"],
)
def test_answer_that_is_none_is_a_failure_that_names_the_source(service: FakeService, answer: Answer) -> None:
    service.on("/transactions", answer)
    with pytest.raises(SourceError) as failure:
        whale_alert(service).fetch(NOW - HOUR, NOW)
    assert KEY not in str(failure.value)


def test_sources_without_their_keys_name_the_variables(service: FakeService) -> None:
    for source, variable in (
        (whale_alert(service, None), "WHALE_ALERT__API_KEY"),
        (CryptoQuant(client(service), None), "CRYPTOQUANT__API_KEY"),
        (Dune(client(service), None, None, ()), "DUNE__QUERY_ID"),
    ):
        with pytest.raises(NotConfiguredError, match=variable):
            source.fetch(NOW - HOUR, NOW)
    assert service.asked == []


def quant_rows(side: str, *values: Any) -> Answer:
    start = NOW.replace(minute=0) - 3 * HOUR
    rows = [{"datetime": f"{start + n * HOUR:%Y-%m-%d %H:%M:%S}", f"{side}_total": v} for n, v in enumerate(values)]
    return as_json({"status": {"code": 200, "message": "success"}, "result": {"window": "hour", "data": rows}})


def test_cryptoquant_joins_inflow_with_outflow_and_leaves_the_hour_in_progress_out(service: FakeService) -> None:
    for asset in ("btc", "eth", "stablecoin"):
        service.on(f"/{asset}/exchange-flows/inflow", quant_rows("inflow", 10.0, "NaN", 12.0, 1.0))
        service.on(f"/{asset}/exchange-flows/outflow", quant_rows("outflow", 4.0, 5.0, 20.0, 1.0))

    delivery = CryptoQuant(client(service), KEY, clock=lambda: NOW).fetch(NOW - DAY, NOW)

    bitcoin = [item for item in delivery.items if item.coin == "BTC"]
    assert [(item.inflow, item.outflow, item.unit) for item in bitcoin] == [(10.0, 4.0, "COIN"), (12.0, 20.0, "COIN")]
    assert {item.unit for item in delivery.items if item.coin == "MARKET"} == {"USD"}
    assert sum("inflow_total is nan" in refused.reason for refused in delivery.refused) == 3
    assert sum("has no counterpart" in refused.reason for refused in delivery.refused) == 3
    assert {asked.headers["authorization"] for asked in service.asked} == {f"Bearer {KEY}"}


def test_cryptoquant_that_answers_200_with_an_error_inside_has_failed(
    service: FakeService, connection: Connection
) -> None:
    for asset in ("btc", "eth", "stablecoin"):
        refusal = as_json({"status": {"code": 403, "message": "plan"}, "result": None})
        service.on(f"/{asset}/exchange-flows/inflow", refusal)
    report = collect(connection, CryptoQuant(client(service), KEY, clock=lambda: NOW), NOW - DAY, NOW, now=NOW)
    assert (report.status, report.new, report.refused) == ("FAILING", 0, 1)
    assert "plan" in report.detail
    kept = connection.execute("select item, payload from quarantined_items").fetchall()
    assert kept == [("the whole answer", '{"status": {"code": 403, "message": "plan"}, "result": null}')]


def test_coin_that_the_plan_of_cryptoquant_lacks_is_refused_and_the_others_are_stored(
    service: FakeService, connection: Connection
) -> None:
    for asset in ("btc", "stablecoin"):
        service.on(f"/{asset}/exchange-flows/inflow", quant_rows("inflow", 10.0, -4.0))
        service.on(f"/{asset}/exchange-flows/outflow", quant_rows("outflow", 4.0, 5.0))
    service.on("/eth/exchange-flows/inflow", as_json({"status": {"code": 200}, "result": {"rows": []}}))
    report = collect(connection, CryptoQuant(client(service), KEY, clock=lambda: NOW), NOW - DAY, NOW, now=NOW)
    assert (report.status, report.new) == ("OK", 2)
    reasons = {reason for (reason,) in connection.execute("select reason from quarantined_items")}
    assert reasons == {
        "cryptoquant answers in another shape than it documents: data is no list",
        "inflow_total is -4, not within 0 and inf",
        "has no counterpart",
    }


def dune(service: FakeService, **changes: Any) -> Dune:
    return Dune(client(service), KEY, 42, ("SOL",), clock=lambda: NOW, sleep=lambda _: None, **changes)


def test_dune_runs_the_query_waits_for_it_and_reads_all_pages(service: FakeService) -> None:
    hour = f"{NOW.replace(minute=0) - 2 * HOUR:%Y-%m-%d %H:%M:%S}.000 UTC"
    good = {"hour": hour, "coin": "sol", "inflow_usd": 5.0, "outflow_usd": 2.0}
    service.on("/query/42/execute", as_json({"execution_id": "e1", "state": "QUERY_STATE_PENDING"}))
    service.on(
        "/execution/e1/status",
        as_json({"state": "QUERY_STATE_PENDING"}),
        as_json({"state": "QUERY_STATE_EXECUTING"}),
        as_json({"state": "QUERY_STATE_COMPLETED"}),
    )
    service.on(
        "/execution/e1/results",
        as_json({"result": {"rows": [good, {**good, "inflow_usd": -1}]}, "next_offset": 2}),
        as_json({"result": {"rows": [{**good, "coin": "doge"}, {**good, "hour": "yesterday"}]}}),
    )

    delivery = dune(service).fetch(NOW - DAY, NOW)

    assert [(item.coin, item.inflow, item.unit) for item in delivery.items] == [("SOL", 5.0, "USD")]
    assert len(delivery.refused) == 2
    assert service.asked[0].method == "POST"
    assert {asked.headers["x-dune-api-key"] for asked in service.asked} == {KEY}


@pytest.mark.parametrize(
    ("state", "words"), [("QUERY_STATE_FAILED", "QUERY_STATE_FAILED"), ("QUERY_STATE_EXECUTING", "has not ended")]
)
def test_dune_query_that_fails_or_never_ends_is_a_failure(service: FakeService, state: str, words: str) -> None:
    service.on("/query/42/execute", as_json({"execution_id": "e1"}))
    service.on("/execution/e1/status", as_json({"state": state}))
    with pytest.raises(SourceError, match=words):
        dune(service).fetch(NOW - DAY, NOW)


@pytest.mark.parametrize("page", ["/query/42/execute", "/execution/e1/status", "/execution/e1/results"])
def test_dune_that_answers_200_with_an_error_inside_has_failed(
    service: FakeService, connection: Connection, page: str
) -> None:
    service.on("/query/42/execute", as_json({"execution_id": "e1"}))
    service.on("/execution/e1/status", as_json({"state": "QUERY_STATE_COMPLETED"}))
    service.on("/execution/e1/results", as_json({"result": {"rows": []}}))
    service.on(page, as_json({"error": "no credits left"}))
    report = collect(connection, dune(service), NOW - DAY, NOW, now=NOW)
    assert (report.status, report.detail) == ("FAILING", "dune answers with an error: no credits left")
    kept = connection.execute("select item, payload from quarantined_items").fetchall()
    assert kept == [("the whole answer", '{"error": "no credits left"}')]


def market(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A market as Gamma writes one."""
    return {
        "id": str(number),
        "question": f"Will the price of Bitcoin be above ${60 + number},000 on March 14?",
        "slug": f"bitcoin-above-{number}",
        "endDate": "2026-03-14T16:00:00Z",
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0.62", "0.38"]',
        "spread": 0.01,
        "liquidityNum": 20_000.5,
        "volumeNum": 90_000.0,
        "closed": False,
        "clobTokenIds": f'["{number}01", "{number}02"]',
        **changes,
    }


def events(*markets: Any) -> Answer:
    return as_json([{"id": "e", "title": "Bitcoin above", "markets": list(markets)}])


def polymarket(service: FakeService, **changes: Any) -> Polymarket:
    return Polymarket(client(service), client(service), OddsPolicy(), clock=lambda: NOW, **changes)


def test_polymarket_pages_until_a_page_is_short_and_reads_questions(service: FakeService) -> None:
    full = as_json([{"id": str(n), "markets": [market(n)]} for n in range(100)])
    service.on("/events", full, events(market(100), market(101, question="Will Gretchen win?")))

    delivery = polymarket(service).fetch(NOW - HOUR, NOW)

    markets = [item for item in delivery.items if isinstance(item, PredictionMarket)]
    assert len(markets) == 101
    assert [asked.query["offset"] for asked in service.asked] == ["0", "100"]
    assert service.asked[0].query["tag_slug"] == "crypto"
    assert (markets[0].coin, markets[0].kind, markets[0].strike) == ("BTC", MarketKind.ABOVE, 60_000.0)
    odds = [item for item in delivery.items if isinstance(item, MarketOdds)]
    assert (odds[0].probability, odds[0].spread, odds[0].ts) == (0.62, 0.01, NOW)
    assert delivery.refused == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcomePrices": '["NaN", "0.4"]'}, "outcomePrices is nan"),
        ({"outcomePrices": '["1.4", "-0.4"]'}, "not within 0 and 1"),
        ({"outcomePrices": '["0.9", "0.9"]'}, "sum to"),
        ({"outcomes": '["Long", "Short"]'}, "outcomes are not"),
        ({"liquidityNum": -5}, "liquidityNum is -5"),
        ({"spread": None}, "lacks spread"),
        ({"endDate": "soon"}, "Invalid isoformat"),
        ({"outcomes": "yes"}, "Expecting value"),
        ({"conditionId": 7, "id": None}, "lacks id"),
        ({"id": "2\x00"}, "id is no name"),
        ({"endDate": None}, "lacks endDate"),
        ({"closed": None}, "lacks closed"),
    ],
)
def test_bad_market_is_quarantined_with_its_reason_and_the_rest_goes_on(
    service: FakeService, connection: Connection, changes: dict[str, Any], reason: str
) -> None:
    service.on("/events", events(market(1), market(2, **changes)))

    report = collect(connection, polymarket(service), NOW - HOUR, NOW, now=NOW)

    assert (report.status, report.new, report.refused) == ("OK", 2, 1)
    assert connection.execute("select market_id from prediction_odds").fetchall() == [("1",)]
    row = connection.execute("select source, reason from quarantined_items").fetchone()
    assert row is not None
    assert row[0] == "polymarket"
    assert reason in row[1]


def test_question_with_invisible_characters_or_an_endless_price_is_stored_as_plain_text(
    service: FakeService, connection: Connection
) -> None:
    hostile = "Will the price of Bit\u200bcoin be above $1\x00,000,000 on March 14? <script>alert(1)</script>"
    endless = f"Will the price of Bitcoin be above ${'9' * 400} on March 14?"
    service.on("/events", events(market(1, question=hostile), market(2, question=endless), market(3)))
    report = collect(connection, polymarket(service), NOW - HOUR, NOW, now=NOW)
    assert (report.status, report.new, report.refused) == ("OK", 6, 0)
    stored = connection.execute("select kind, strike, question from prediction_markets order by market_id").fetchall()
    assert [row[:2] for row in stored[1:]] == [("EVENT", None), ("ABOVE", 63_000.0)]
    assert stored[0][2] == "Will the price of Bitcoin be above $1 ,000,000 on March 14?"


def test_markets_of_minutes_are_left_out(service: FakeService) -> None:
    short = market(
        2, question="Bitcoin Up or Down - March 10, 8:00AM-8:05AM ET", slug="btc-updown-5m-1", outcomes='["Up", "Down"]'
    )
    daily = market(3, question="Bitcoin Up or Down on March 10?", slug="daily", outcomes='["Up", "Down"]')
    service.on("/events", events(short, daily))
    markets = [i for i in polymarket(service).fetch(NOW - HOUR, NOW).items if isinstance(i, PredictionMarket)]
    assert [(m.market_id, m.kind) for m in markets] == [("3", MarketKind.UP_OR_DOWN)]


def test_history_fills_what_was_not_looked_at_and_is_known_by_the_next_hour(service: FakeService) -> None:
    start = NOW - 5 * DAY
    points = [{"t": int((start + n * HOUR).timestamp()), "p": 0.5} for n in range(1, 4)]
    service.on("/events", events(market(1), market(2, spread=0.5)))
    service.on("/prices-history", as_json({"history": [*points, {"t": points[0]["t"], "p": 7}]}))

    delivery = polymarket(service).fetch(start, NOW)

    asked = [request for request in service.asked if request.path == "/prices-history"]
    assert {request.query["market"] for request in asked} == {"101"}
    history = [i for i in delivery.items if isinstance(i, MarketOdds) and i.spread is None]
    assert [item.ts for item in history] == [start + n * HOUR for n in range(1, 4)]
    assert all(item.ts <= item.available_at < item.ts + HOUR for item in history)
    assert [refused.reason for refused in delivery.refused] == ["p is 7, not within 0 and 1"]


@pytest.mark.parametrize("answer", [as_json({"error": "internal"}), Answer(status=404), Answer(b"<html>")])
def test_histories_that_fail_do_not_cost_the_odds_of_now(
    service: FakeService, connection: Connection, answer: Answer
) -> None:
    service.on("/events", events(market(1), market(2)))
    service.on("/prices-history", answer)
    report = collect(connection, polymarket(service), NOW - 5 * DAY, NOW, now=NOW)
    assert (report.status, report.new) == ("OK", 4)
    assert report.refused >= 1


def test_source_that_gives_no_answer_is_not_asked_for_everything_else(service: FakeService) -> None:
    service.on("/events", events(*(market(n) for n in range(1, 9))))
    service.on("/prices-history", Answer(status=503))
    polymarket(service).fetch(NOW - 5 * DAY, NOW)
    assert service.paths().count("/prices-history") == 3


def test_closed_market_is_asked_about_until_it_has_paid(service: FakeService, connection: Connection) -> None:
    closed = [
        market(1, closed=True, outcomePrices=prices) for prices in ('["0.993", "0.007"]', '["0", "0"]', '["1", "0"]')
    ]
    service.on("/events", events(market(1)), events(market(2)))
    source, told = polymarket(service), list[tuple[Any, ...]]()
    collect(connection, source, NOW - HOUR, NOW, now=NOW)
    for number, answer in enumerate(closed, start=1):
        service.on("/markets", lambda asked, a=answer: as_json([a] if "id" in asked.query else []))
        source.clock = lambda n=number: NOW + n * HOUR
        assert follow_up(connection, source, source.clock()) == (1, 0)
        row = connection.execute("select status, outcome from prediction_markets where market_id = '1'").fetchone()
        told.append(row or ())
    assert told == [("RESOLVED", None), ("RESOLVED", None), ("RESOLVED", 1.0)]
    assert follow_up(connection, source, NOW + 9 * HOUR) == (0, 0)


def test_markets_do_not_vanish_because_nobody_answers(service: FakeService, connection: Connection) -> None:
    service.on("/events", events(market(1)), events(market(2)))
    source = polymarket(service)
    collect(connection, source, NOW - HOUR, NOW, now=NOW)
    service.on("/markets", as_json({"error": "internal"}))
    assert follow_up(connection, source, NOW + HOUR) == (0, 0)
    assert connection.execute("select status from prediction_markets").fetchall() == [("OPEN",)]


def test_missing_market_is_resolved_or_vanished_and_never_lost(service: FakeService, connection: Connection) -> None:
    service.on("/events", events(market(1), market(2), market(3)), events(market(1)))
    source = polymarket(service)
    collect(connection, source, NOW - HOUR, NOW, now=NOW)
    later = NOW + HOUR
    source.clock = lambda: later
    collect(connection, source, NOW, later, now=later)

    def look_up(asked: Asked) -> Answer:
        closed = market(2, closed=True, outcomePrices='["1", "0"]')
        return as_json([closed] if asked.query["closed"] == "true" else [])

    service.on("/markets", look_up)

    assert follow_up(connection, source, later) == (1, 1)
    states = connection.execute("select market_id, status, outcome from prediction_markets order by 1").fetchall()
    assert states == [("1", "OPEN", None), ("2", "RESOLVED", 1.0), ("3", "VANISHED", None)]
    assert connection.execute("select count(*) from prediction_odds where market_id = '3'").fetchone() == (1,)
    assert follow_up(connection, source, later) == (0, 0)


@pytest.mark.real_data
def test_recorded_answers_of_whale_alert_are_read(service: FakeService, real_data_dir: Path) -> None:
    folder = real_data_dir / "api_samples" / "whale_alert"
    then = datetime(2020, 5, 4, 8, 0, tzinfo=UTC)
    service.on("/transactions", Answer((folder / "success.json").read_bytes()))
    source = WhaleAlert(client(service), KEY, FlowThresholds(), clock=lambda: then)

    items = source.fetch(then - HOUR, then).items

    assert [(item.coin, item.transaction_id, item.direction) for item in items] == [
        ("USDT", "655552612", FlowDirection.TRANSFER),
        ("USDT", "655553158", FlowDirection.TRANSFER),
    ]
    service.on("/transactions", Answer((folder / "empty.json").read_bytes()))
    assert source.fetch(then - HOUR, then).items == ()
    service.on("/transactions", Answer((folder / "error.json").read_bytes()))
    with pytest.raises(SourceError, match="invalid api_key"):
        source.fetch(then - HOUR, then)


@pytest.mark.real_data
def test_recorded_ladder_of_polymarket_is_read(service: FakeService, real_data_dir: Path) -> None:
    recorded = json.loads((real_data_dir / "api_samples/polymarket_nautilus/search_response.json").read_text())
    service.on("/events", as_json(recorded["events"]))
    source = polymarket(service)
    source.clock = lambda: datetime(2026, 3, 11, 12, 0, tzinfo=UTC)

    delivery = source.fetch(source.clock() - HOUR, source.clock())

    markets = [item for item in delivery.items if isinstance(item, PredictionMarket)]
    assert markets
    assert {(m.coin, m.kind) for m in markets} == {("BTC", MarketKind.ABOVE)}
    assert all(m.strike is not None and 40_000 < m.strike < 200_000 for m in markets)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "status"),
    [
        ("gamma_market_closed_binary_accepting_false.json", MarketStatus.RESOLVED),
        ("gamma_market_closed_binary_accepting_true.json", None),
        ("gamma_market_sports_market_money_line.json", None),
        ("gamma_market_sports_market_map_handicap.json", None),
        ("gamma_market_closed_zero_zero_legacy.json", None),
        ("gamma_market_closed_nonbinary_legacy.json", None),
    ],
)
def test_recorded_closed_markets_have_an_outcome_or_are_left_out(
    service: FakeService, real_data_dir: Path, file: str, status: MarketStatus | None
) -> None:
    recorded = json.loads((real_data_dir / "api_samples/polymarket_nautilus" / file).read_text())
    service.on("/markets", as_json([recorded]))
    found = polymarket(service).look_up([recorded["id"]], NOW).items
    assert {m.status for m in found} == ({status} if status else set())


@pytest.mark.real_data
def test_recorded_event_and_open_market_of_polymarket_are_read(service: FakeService, real_data_dir: Path) -> None:
    folder = real_data_dir / "api_samples/polymarket_nautilus"
    (recorded,) = json.loads((folder / "gamma_event.json").read_text())
    short = json.loads((folder / "gamma_market.json").read_text())
    guzus = json.loads((real_data_dir / "polymarket/gamma_markets_guzus.json").read_text())
    service.on("/events", as_json([recorded, {"id": "e", "markets": [short, *guzus]}]))

    delivery = polymarket(service).fetch(NOW - HOUR, NOW)

    assert delivery.refused == ()
    assert {item.question for item in delivery.items if isinstance(item, PredictionMarket)} == set()


@pytest.mark.real_data
def test_recorded_day_of_five_minute_markets_is_left_out_and_settled_as_recorded(
    service: FakeService, real_data_dir: Path
) -> None:
    file = real_data_dir / "polymarket/btc_updown_5m_markets_2026-07-24.jsonl.gz"
    recorded = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    service.on("/events", as_json([{"id": "e", "markets": [one["raw"] for one in recorded]}]))
    assert polymarket(service).fetch(NOW - HOUR, NOW).items == ()

    for one in recorded:
        one["raw"] |= {"question": "Bitcoin Up or Down on July 24?", "slug": "daily", "eventStartTime": None}
    service.on("/events", as_json([{"id": "e", "markets": [one["raw"] for one in recorded]}]))
    delivery = polymarket(service).fetch(NOW - HOUR, NOW)
    paid = {m.market_id: m.outcome for m in delivery.items if isinstance(m, PredictionMarket)}
    assert delivery.refused == ()
    assert paid == {one["raw"]["id"]: float(one["outcome_prices"][0]) for one in recorded}
