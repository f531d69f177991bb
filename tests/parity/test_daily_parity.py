"""The daily comparison: nothing to tell about a day lived in time, and every kind of difference told apart."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from drivers import SIGNAL, run_paper
from psycopg.conninfo import make_conninfo
from stages import END, START, Stage, simulated_tape, staged

from trading_pipelines.application.research.daily_parity import compare_day
from trading_pipelines.domain.execution.session import SessionMode
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.read_models.parity import newest_reports
from trading_pipelines.store.repositories import sessions
from trading_pipelines.store.repositories.parity import ParityRow

SPAN = timedelta(hours=6)
DECISIONS = 24 * 3


@pytest.fixture(scope="module")
def stage(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A session that has traded a quarter of a day in time."""
    data_dir = tmp_path_factory.mktemp("daily")
    with staged(server_url, template, "daily_parity", data_dir, simulated_tape(), START, START + SPAN) as opened:
        opened.live(run_paper, opened.settings("model_signals"))
        yield opened


@pytest.fixture
def lived(stage: Stage) -> Iterator[Connection]:
    """The database after that time, a copy for each test."""
    stage.administer(f"create database daily_parity_copy template {stage.database(run_paper)} strategy file_copy")
    with connect(make_conninfo(stage.server_url, dbname="daily_parity_copy")) as connection:
        yield connection
    stage.administer("drop database daily_parity_copy with (force)")


def compared(connection: Connection) -> ParityRow:
    (session,) = sessions.of_mode(connection, SessionMode.PAPER)
    return compare_day(connection, session, START, START + SPAN, END)


def first_signal(connection: Connection) -> tuple[datetime, int, str]:
    row = connection.execute(
        "select d.ts, d.instrument_id, i.symbol from decisions d join instruments i using (instrument_id) "
        "where d.outcome = 'SIGNAL' order by d.ts, i.symbol limit 1"
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def test_day_that_was_lived_in_time_is_equal_to_the_last_decision_and_fill(lived: Connection) -> None:
    row = compared(lived)
    assert row.decisions == row.replayed == row.equal == DECISIONS
    assert (row.late, row.missed, row.diverged) == (0, 0, 0)
    assert row.fingerprint == row.replay_fingerprint
    assert row.positions >= 2
    assert row.fills >= row.fills_matched >= 4
    assert row.fill_differences == []
    assert row.price_bps_mean == pytest.approx(0, abs=1e-6)
    (summary,) = newest_reports(lived)
    assert (summary.day, summary.equal, summary.diverged) == (START.date(), DECISIONS, 0)
    assert lived.execute("select from events where kind = 'parity'").rowcount == 0


def test_decision_that_the_rows_do_not_give_is_a_divergence_with_an_alert(lived: Connection) -> None:
    ts, instrument_id, symbol = first_signal(lived)
    lived.execute(
        "update decisions set outcome = 'REJECTED', reason = 'risk_reward' where ts = %s and instrument_id = %s",
        (ts, instrument_id),
    )
    row = compared(lived)
    assert (row.equal, row.diverged) == (DECISIONS - 1, 1)
    assert row.first_divergence is not None
    assert (row.first_divergence["ts"], row.first_divergence["symbol"]) == (ts.isoformat(), symbol)
    assert "REJECTED" in row.first_divergence["live"]
    assert "SIGNAL" in row.first_divergence["replayed"]
    (event,) = lived.execute("select severity, message from events where kind = 'parity'").fetchall()
    assert event[0] == "critical"
    assert symbol in event[1]


def test_prediction_that_was_changed_afterwards_is_a_divergence(lived: Connection) -> None:
    ts, instrument_id, _ = first_signal(lived)
    lived.execute(
        "update predictions set probability = 0.5001, confidence = 0.5001, side = 'LONG' "
        "where ts = %s and instrument_id = %s",
        (ts, instrument_id),
    )
    row = compared(lived)
    assert row.diverged == 1
    assert row.first_divergence is not None
    assert row.first_divergence["ts"] == ts.isoformat()


def trade_by_hand(connection: Connection, ts: datetime, instrument_id: int, at: datetime) -> None:
    """What a person's trade leaves behind, made like the signal of that bar."""
    connection.execute(
        "insert into decisions (session_id, instrument_id, timeframe, ts, strategy, decided_at, outcome, "
        "reason, gates) "
        "select session_id, instrument_id, timeframe, %(at)s, 'manual', %(at)s, 'SIGNAL', 'by hand', '[]' "
        "from decisions where ts = %(ts)s and instrument_id = %(instrument)s",
        {"at": at, "ts": ts, "instrument": instrument_id},
    )
    connection.execute(
        "insert into signals select (jsonb_populate_record(s, jsonb_build_object('strategy', 'manual', "
        "'status', 'ACTIVE', 'signal_id', gen_random_uuid(), 'ts', %(at)s::timestamptz, "
        "'created_at', %(at)s::timestamptz))).* "
        "from signals s where ts = %(ts)s and instrument_id = %(instrument)s",
        {"at": at, "ts": ts, "instrument": instrument_id},
    )


def test_trade_by_hand_is_no_divergence(lived: Connection) -> None:
    before = compared(lived)
    ts, instrument_id, _ = first_signal(lived)
    trade_by_hand(lived, ts, instrument_id, START + SPAN - timedelta(seconds=1))
    row = compared(lived)
    assert (row.decisions, row.equal, row.diverged, row.late) == (before.decisions, before.equal, 0, 0)
    assert row.fingerprint == row.replay_fingerprint


def test_cooldown_after_a_trade_by_hand_is_known_to_the_report(lived: Connection) -> None:
    ts, instrument_id, _ = first_signal(lived)
    trade_by_hand(lived, ts, instrument_id, ts + SIGNAL.delta - timedelta(minutes=5))
    assert compared(lived).diverged == 1
    lived.execute(
        "update decisions set outcome = 'REJECTED', reason = 'cooldown_minutes' where ts = %s and instrument_id = %s",
        (ts, instrument_id),
    )
    lived.execute("delete from signals where ts = %s and instrument_id = %s", (ts, instrument_id))
    row = compared(lived)
    assert (row.diverged, row.late) == (0, 0)


def test_bar_that_nobody_decided_is_missed_and_no_divergence(lived: Connection) -> None:
    lived.execute("delete from decisions where outcome = 'REJECTED' and ts >= %s", (START + timedelta(hours=4),))
    row = compared(lived)
    assert row.missed == DECISIONS - row.decisions > 0
    assert (row.diverged, row.equal) == (0, row.decisions)


def test_bars_before_the_beginning_of_the_session_are_not_missed(lived: Connection) -> None:
    begins_at = START + SPAN / 2
    lived.execute("delete from decisions where ts < %s", (begins_at,))
    lived.execute("update sessions set begins_at = %s", (begins_at,))
    row = compared(lived)
    assert row.missed == 0
    assert row.replayed == row.decisions == DECISIONS // 2


def test_decision_made_late_is_classified_as_late(lived: Connection) -> None:
    """What was decided hours after the close is refused for its age; asked again as of then it is the same."""
    ts, instrument_id, _ = first_signal(lived)
    minutes = 260
    lived.execute(
        """
        update decisions d set outcome = 'REJECTED', reason = 'bar_age_minutes', decided_at = %(late)s,
            gates = (select jsonb_agg(case gate ->> 'name'
                         when 'bar_age_minutes' then gate || '{"value": 260, "passed": false}' else gate end)
                     from jsonb_array_elements(d.gates) gate)
        where ts = %(ts)s and instrument_id = %(instrument)s
        """,
        {"late": ts + SIGNAL.delta + timedelta(minutes=minutes), "ts": ts, "instrument": instrument_id},
    )
    row = compared(lived)
    assert (row.late, row.diverged) == (1, 0)


def test_rules_of_each_moment_judge_its_decisions(lived: Connection) -> None:
    """A change of the thresholds today does not make yesterday's decisions wrong."""
    lived.execute(
        "update sessions set config = jsonb_set(config, '{policy,min_risk_reward}', '50') where mode = 'paper'"
    )
    versions = lived.execute("select valid_from from session_rules order by valid_from").fetchall()
    assert len(versions) == 2
    assert compared(lived).diverged == 0


def test_fill_that_was_worse_than_modelled_shows_in_bps(lived: Connection) -> None:
    lived.execute("update fills set price = price * 1.001 where kind = 'ENTRY' and side = 'BUY'")
    lived.execute("update fills set price = price * 0.999 where kind = 'ENTRY' and side = 'SELL'")
    row = compared(lived)
    assert row.price_bps_worst == pytest.approx(10, abs=0.01)
    assert row.diverged == 0


def test_exit_that_the_market_did_not_give_is_named(lived: Connection) -> None:
    lived.execute("delete from fills where kind = 'STOP'")
    row = compared(lived)
    assert row.fill_differences
    assert {(d["kind"], d["only"]) for d in row.fill_differences} == {("STOP", "model")}
