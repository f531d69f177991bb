"""Dated numbers: fetched twice they are there once, revised they are there in both versions."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from trading_pipelines.domain.alternative.series import MARKET, SERIES, SIMULATED, Observation
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import observations

DAY = datetime(2025, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fear(value: float, known_after: timedelta = HOUR, source: str = "alternative_me") -> Observation:
    return Observation("fear_greed", MARKET, source, DAY, DAY + known_after, value)


def known(connection: Connection, *, simulated: bool = False, until: timedelta = timedelta(days=9)) -> list[float]:
    frame = observations.read_known(connection, ["fear_greed"], [MARKET], DAY, DAY + until, simulated=simulated)
    return frame["value"].tolist()


def test_same_value_fetched_again_is_not_stored_twice(scratch: Connection) -> None:
    assert observations.add(scratch, [fear(40.0)]) == 1
    assert observations.add(scratch, [fear(40.0), fear(40.0, 5 * HOUR)]) == 0
    assert known(scratch) == [40.0]


def test_revision_stands_beside_the_former_value_and_is_read_from_its_time_on(scratch: Connection) -> None:
    observations.add(scratch, [fear(40.0)])
    assert observations.add(scratch, [fear(42.0, 30 * HOUR)]) == 1
    assert known(scratch, until=30 * HOUR) == [40.0]
    assert known(scratch) == [40.0, 42.0]


def test_simulated_and_real_values_are_never_read_together(scratch: Connection) -> None:
    observations.add(scratch, [fear(40.0), fear(70.0, source=SIMULATED)])
    assert known(scratch) == [40.0]
    assert known(scratch, simulated=True) == [70.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_no_number_is_refused(scratch: Connection, value: float) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        observations.add(scratch, [fear(value)])


def test_history_of_a_day_is_known_after_its_end_and_its_publication() -> None:
    assert SERIES["stablecoin_supply_usd"].known_at(DAY) == DAY + timedelta(days=1, hours=6)
