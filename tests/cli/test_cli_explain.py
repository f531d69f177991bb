"""`trading explain` as a person types it."""

import pytest
from command_line import Run

from trading_pipelines.store.connection import connect
from trading_pipelines.store.repositories.instruments import by_symbol


@pytest.fixture
def traded(on_database: str) -> str:
    """A database with one signal that nobody executed."""
    from trading_world import build_world

    with connect(on_database) as connection:
        world = build_world(connection)
        stored = world.signal("ETHUSDT")
        connection.execute("update signals set factors = '{\"rsi_14\": -0.4}' where signal_id = %s", (stored,))
        connection.commit()
        assert "ETHUSDT" in by_symbol(connection, "bybit")
    return str(stored)


def test_signal_is_drawn_as_a_tree_with_its_factors(run: Run, traded: str) -> None:
    outcome = run("explain", traded[:9])
    assert outcome.code == 0
    assert outcome.out.startswith(f"signal {traded}\n")
    for part in ("model_signals LONG of bar 15m", "rsi_14 -0.4", "orders (0)", "no model", "no stored feature row"):
        assert part in outcome.out


def test_json_is_one_object_with_the_stored_rows(run: Run, traded: str) -> None:
    found = run("explain", traded, "--json").json
    assert (found["kind"], found["id"]) == ("signal", traded)
    assert found["signal"]["side"] == "LONG"
    assert found["orders"] == found["fills"] == found["positions"] == []
    forward = run("explain", "--signal", traded, "--json").json
    assert (forward["signals"], forward["positions"], forward["net"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "explain one thing"),
        (("abcd-ef", "--model", "x"), "explain one thing"),
        (("ffffffff",), "no order, signal, position or fill has the id 'ffffffff' (near: signal "),
        (("--model", "none"), "no model version begins with 'none' (near: none)"),
        (("--candle", "ETHUSDC", "15m", "2024-03-04"), "ETHUSDC is not stored for bybit (near: ETHUSDT"),
        (("--candle", "ETHUSDT", "7m", "2024-03-04"), "no timeframe '7m'"),
        (("--candle", "ETHUSDT", "15m", "2024-03-04"), "there is no 15m candle of ETHUSDT on bybit"),
    ],
)
def test_what_cannot_be_explained_is_one_clear_line(
    run: Run, traded: str, arguments: tuple[str, ...], message: str
) -> None:
    outcome = run("explain", "--exchange", "bybit", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
