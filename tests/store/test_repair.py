"""Gaps are asked about again, filled by their exchange, by another one under its name, or proven to be absent."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from trading_pipelines.adapters.sources.base import CandlePage
from trading_pipelines.adapters.sources.factory import open_second_source
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.market_data.repair import RepairReport, repair_gaps
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.settings import RepairSettings, load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import candles, instruments

M5 = Timeframe.M5
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
START = NOW - timedelta(days=2)
HOLE = (datetime(2026, 5, 3, 10, tzinfo=UTC), datetime(2026, 5, 3, 10, 20, tzinfo=UTC))
RULES = RepairSettings(times=2, hours=0, pause_minutes=0)


class Venue(SimulatedSource):
    """The simulated market with an outage, and a memory of what it was asked for."""

    def __init__(self, name: str, outage: bool, factor: float = 1.0) -> None:
        super().__init__(SimulatedMarketSpec(symbols=("BTCUSDT",)), lambda: NOW)
        self.exchange = name
        self.outage = outage
        self.factor = factor
        self.asked: list[tuple[datetime, datetime]] = []

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        self.asked.append((start, end))
        for page in super().candles(instrument, timeframe, start, end):
            rows = page.candles
            if self.outage:
                rows = rows[~rows["ts"].between(*HOLE, inclusive="left")]
            prices = {name: rows[name] * self.factor for name in ("open", "high", "low", "close")}
            yield CandlePage(page.start, page.end, rows.assign(**prices))


@pytest.fixture
def venue(connection: Connection) -> Venue:
    """A venue of which everything is stored but what it lost in its outage."""
    source = Venue("simulated", outage=True)
    ingest(connection, source, (), M5, START, NOW)
    source.asked.clear()
    return source


def ledger(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("select bars, verdict, asked, repaired_from from ohlcv_gaps").fetchall()


def stored(connection: Connection) -> pd.DataFrame:
    instrument_id = instruments.by_symbol(connection, "simulated")["BTCUSDT"].instrument_id
    return candles.read_filled(connection, instrument_id, M5, HOLE[0] - M5.delta, HOLE[1] + M5.delta)


def test_only_the_gap_is_asked_for_and_closed_when_the_exchange_has_it(connection: Connection, venue: Venue) -> None:
    assert ledger(connection) == [(4, "open", 0, None)]
    venue.outage = False
    assert repair_gaps(connection, venue, M5, RULES) == RepairReport(asked=1, repaired=1)
    assert venue.asked == [HOLE]
    assert ledger(connection) == [(4, "repaired", 0, None)]
    assert repair_gaps(connection, venue, M5, RULES) == RepairReport()


def test_absence_takes_several_answers_over_time(connection: Connection, venue: Venue) -> None:
    slow = RULES.model_copy(update={"hours": 1.0})
    for asked in (1, 2, 3):
        repair_gaps(connection, venue, M5, slow)
        assert ledger(connection) == [(4, "open", asked, None)]
    connection.execute("update ohlcv_gaps set detected_at = detected_at - interval '2 hours'")
    repair_gaps(connection, venue, M5, slow)
    assert ledger(connection) == [(4, "absent", 4, None)]
    assert repair_gaps(connection, venue, M5, slow).asked == 0


def test_gap_rests_between_two_questions(connection: Connection, venue: Venue) -> None:
    patient = RULES.model_copy(update={"pause_minutes": 60.0})
    assert repair_gaps(connection, venue, M5, patient).asked == 1
    assert repair_gaps(connection, venue, M5, patient).asked == 0


def test_candles_of_another_exchange_stand_in_under_its_name(connection: Connection, venue: Venue) -> None:
    second = Venue("other", outage=False, factor=1.001)
    report = repair_gaps(connection, venue, M5, RULES, second)
    assert (report.substituted, report.refused, report.errors) == (4, [], [])
    assert second.asked == [(HOLE[0] - M5.delta, HOLE[1] + M5.delta)]
    assert ledger(connection) == [(4, "repaired", 1, "other")]
    assert stored(connection)["exchange"].tolist() == ["", *["other"] * 4, ""]
    hour = connection.execute("select count(*) from ohlcv_1h where ts = %s", (HOLE[0],)).fetchone()
    assert hour == (1,)
    venue.outage = False
    connection.commit()
    ingest(connection, venue, (), M5, *HOLE, refetch=True)
    frame = stored(connection)
    assert frame["exchange"].eq("").all()
    own = pd.concat([p.candles for p in venue.candles(venue.instruments()[0], M5, *HOLE)])
    assert frame["close"].tolist()[1:-1] == own["close"].tolist()


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Venue("other", outage=False, factor=1.02), "other differs by 2.00% beside the gap"),
        (Venue("other", outage=True), "other has no candle there either"),
    ],
)
def test_candles_that_cannot_stand_in_are_refused_with_the_reason(
    connection: Connection, venue: Venue, second: Venue, reason: str
) -> None:
    report = repair_gaps(connection, venue, M5, RULES, second)
    assert report.refused == [f"BTCUSDT 2026-05-03 10:00: {reason}"]
    assert report.substituted == 0
    assert ledger(connection) == [(4, "open", 1, None)]


def test_filled_frame_says_which_rows_are_made_up_and_stores_none(connection: Connection, venue: Venue) -> None:
    frame = stored(connection)
    assert frame["filled"].tolist() == [False, True, True, True, True, False]
    before = frame["close"].iloc[0]
    made_up = frame[frame["filled"]]
    assert (made_up[["open", "high", "low", "close"]] == before).all(axis=None)
    assert (made_up["volume"] == 0).all()
    assert made_up["ts"].tolist() == pd.date_range(*HOLE, freq="5min", inclusive="left").tolist()
    instrument_id = instruments.by_symbol(connection, "simulated")["BTCUSDT"].instrument_id
    assert candles.count(connection, instrument_id, M5, *HOLE) == 0
    assert candles.read_filled(connection, instrument_id, M5, *HOLE).empty


def test_second_source_is_another_exchange() -> None:
    assert open_second_source(load_settings()) is None
    with pytest.raises(UserError, match="TRADING_REPAIR__SECOND_SOURCE: bybit is no other exchange"):
        open_second_source(load_settings(repair=RepairSettings(second_source="bybit")))
    mistyped = RepairSettings(second_source="bybitt")
    settings = load_settings(source="ccxt", exchange="bybit", symbols="BTCUSDT", repair=mistyped)
    with pytest.raises(UserError, match="TRADING_REPAIR__SECOND_SOURCE: no exchange bybitt"):
        open_second_source(settings)
