"""The universe and derivatives through Dagster: a run fills its tables, its checks pass, planted faults are found."""

from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.defs.market_data import derivatives, universe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.store.connection import Connection

TODAY = "2026-03-10"


class StandingMarket(SourceResource):
    """The simulated market at the test's time."""

    shows: str

    def open(self) -> Any:
        """The market as it was then."""
        from trading_pipelines.adapters.sources.simulated import SimulatedSource

        return SimulatedSource(SimulatedMarketSpec(), lambda: datetime.fromisoformat(self.shows))


@pytest.fixture
def resources(platform: None, clock: ClockResource) -> dict[str, Any]:
    market = StandingMarket(shows=clock.now().isoformat())
    return {"clock": clock, "database": DatabaseResource(), "source": market}


UNIVERSE = [
    universe.universe,
    universe.universe_gapless,
    universe.listings_in_order,
    universe.tickers_not_crossed,
]
DERIVATIVES = [derivatives.derivatives, derivatives.open_interest_valid, derivatives.mark_prices_near_trades]


def failed(result: dg.ExecuteInProcessResult) -> set[str]:
    return {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}


def test_look_fills_its_tables_and_passes_its_checks(resources: dict[str, Any], connection: Connection) -> None:
    result = dg.materialize(UNIVERSE, resources=resources)
    assert result.success
    assert failed(result) == set()
    counts = connection.execute(
        "select (select count(*) from universe where member), (select count(*) from tickers), "
        "(select count(*) from instruments where followed)"
    ).fetchone()
    assert counts is not None
    assert counts[0] > 10
    assert counts[1] > counts[0]
    assert counts[2] == 0


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        (
            "insert into universe (instrument_id, valid_from, valid_to, member, reasons) "
            "select instrument_id, valid_from - interval '2 days', valid_from - interval '1 day', false, '{VOLUME}' "
            "from universe limit 1",
            "gapless",
        ),
        ("update listings set listed_at = ts + interval '1 hour'", "in_order"),
    ],
)
def test_planted_fault_is_found(resources: dict[str, Any], connection: Connection, statement: str, check: str) -> None:
    assert dg.materialize(UNIVERSE, resources=resources).success
    connection.execute(statement)  # type: ignore[arg-type]  # a literal of this file
    connection.commit()
    result = dg.materialize(UNIVERSE, resources=resources, raise_on_error=False)
    assert failed(result) == {check}


def test_day_of_derivatives_is_fetched_and_sound(resources: dict[str, Any], connection: Connection) -> None:
    result = dg.materialize(DERIVATIVES, resources=resources, partition_key=TODAY)
    assert result.success
    assert failed(result) == set()
    counts = connection.execute(
        "select (select count(*) from open_interest), (select count(*) from mark_prices)"
    ).fetchone()
    assert counts == (2 * 13, 2 * 12)
    connection.execute("update open_interest set ts = ts + interval '1 minute', available_at = ts")
    connection.commit()
    again = dg.materialize(DERIVATIVES, resources=resources, partition_key=TODAY, raise_on_error=False)
    assert "valid" in failed(again)


def test_candles_of_members_are_fetched_by_their_job(resources: dict[str, Any], connection: Connection) -> None:
    assert dg.materialize(UNIVERSE, resources=resources).success
    definitions = dg.Definitions(jobs=[universe.universe_candles_job], resources=resources)
    result = definitions.resolve_job_def("universe_candles").execute_in_process()
    assert result.success
    stored = connection.execute(
        "select count(distinct instrument_id), bool_or(followed) from ohlcv_4h join instruments using (instrument_id)"
    ).fetchone()
    assert stored is not None
    assert stored[0] > 10
    assert stored[1] is False
