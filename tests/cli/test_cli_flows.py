"""`trading flows` and `trading odds` on the simulated market."""

import pytest
from command_line import Run

pytestmark = pytest.mark.usefixtures("on_database", "small_market")


def test_flows_show_transactions_and_a_coin_narrows_them(run: Run) -> None:
    run("collect", "whale_transactions", "exchange_flows")

    everything = run("flows", "--hours", "48", "--json").json
    bitcoin = run("flows", "btc", "--hours", "48", "--json").json

    assert {row["coin"] for row in everything["transactions"]} > {"BTC"}
    assert "BTC" in {row["coin"] for row in everything["coins"]}
    assert {row["coin"] for row in bitcoin["transactions"]} == {"BTC"}
    assert "Large transactions" in run("flows", "--hours", "48").out


def test_odds_show_open_markets_and_a_coin_narrows_them(run: Run) -> None:
    run("collect", "prediction_odds")

    markets = run("odds", "eth", "--json").json["markets"]

    assert {row["coin"] for row in markets} == {"ETH"}
    assert all(0 < row["probability"] < 1 for row in markets)
    assert "Markets" in run("odds").out


@pytest.mark.parametrize(("command", "dataset"), [("flows", "whale_transactions"), ("odds", "prediction_odds")])
def test_empty_database_names_what_fills_it(run: Run, command: str, dataset: str) -> None:
    found = run(command)

    assert found.code == 2
    assert f"trading collect {dataset}" in found.err
