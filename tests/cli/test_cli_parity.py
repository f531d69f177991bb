"""`trading parity` as a person types it."""

from datetime import UTC, datetime

import psycopg
import pytest
from command_line import Run

from trading_pipelines.store.connection import connect


@pytest.fixture
def decided(on_database: str) -> str:
    """Name of a session with one decision about a bar that no candle tells of."""
    from trading_world import build_world

    with connect(on_database) as connection:
        world = build_world(connection)
        world.signal("ETHUSDT")
    return world.session.name


def test_divergence_is_named_and_ends_with_one(run: Run, decided: str) -> None:
    outcome = run("parity", "--session", decided, "--from", "2024-03-04")
    assert outcome.code == 1
    assert f"{decided} 2024-03-04: first divergence: ETHUSDT model_signals bar 2024-03-04 11:45" in outcome.out
    found = run("parity", "--session", decided, "--from", "2024-03-04", "--to", "2024-03-06", "--json").json
    assert [(day["day"], day["decisions"], day["diverged"]) for day in found["sessions"][decided]] == [
        ("2024-03-04", 1, 1),
        ("2024-03-05", 0, 0),
    ]


def test_day_without_decisions_is_equal(run: Run, decided: str, on_database: str) -> None:
    assert run("parity", "--session", decided).code == 0
    with psycopg.connect(on_database) as connection:
        (day,) = connection.execute("select day from parity_reports").fetchone() or (None,)
    assert day < datetime.now(UTC).date()


def test_status_tells_of_the_newest_comparison(run: Run, decided: str, on_database: str) -> None:
    with psycopg.connect(on_database) as connection:
        connection.execute("update sessions set mode = 'paper'")
    run("parity", "--session", decided, "--from", "2024-03-04")
    assert "2024-03-04: 1 DIVERGED, first ETHUSDT model_signals" in run("status").out
    assert run("status", "--json").json["parity"][0]["diverged"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--session", "nobody"), "there is no session 'nobody'"),
        (("--from", "2024-03-05", "--to", "2024-03-05"), "is not before --to"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(
    run: Run, decided: str, arguments: tuple[str, ...], message: str
) -> None:
    outcome = run("parity", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
