"""The registry: what may be done to a version, by whom, and what the database refuses."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.models.registry import Change, change, promote_earned
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import REQUESTER, Connection, connect
from trading_pipelines.store.read_models import models as read
from trading_pipelines.store.repositories import instruments, models
from trading_pipelines.store.repositories.models import ModelVersion
from trading_pipelines.store.roles import ensure_requester

T0 = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def versions(database: str) -> Iterator[tuple[Connection, dict[str, ModelVersion]]]:
    """Three versions of one market, trained an hour after one another."""
    with connect(database) as connection:
        instruments.save(connection, [_instrument()])
        ids = {s: i.instrument_id for s, i in instruments.by_symbol(connection, "bybit").items()}
        made = {}
        for i, name in enumerate("abc"):
            made[name] = ModelVersion(
                name, ids["BTCUSDT"], "15m", current_feature_set(connection), f"key {name}", T0 + i * HOUR, {}, "hash"
            )
            models.insert(connection, made[name], spec={}, train_from=T0, artefact=b"", code_version="1")
        connection.commit()
        yield connection, made


def _instrument() -> Instrument:
    step = Decimal("0.01")
    return Instrument(
        "bybit",
        "BTCUSDT",
        "BTC",
        "USDT",
        MarketKind.PERPETUAL,
        price_step=step,
        quantity_step=step,
        min_quantity=step,
        min_notional=Decimal(5),
        funding_interval_minutes=480,
    )


def _now_in_production(connection: Connection, at: datetime) -> str | None:
    (instrument_id,) = connection.execute("select instrument_id from instruments").fetchone() or (0,)
    found = models.in_production(connection, instrument_id, "15m", at)
    return None if found is None else found.model_id


def _states(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("select model_id, state from model_states").fetchall())


def _do(connection: Connection, wanted: Change, model_id: str, hours: int) -> str:
    return change(connection, wanted, model_id, "somebody", "because", T0 + hours * HOUR)


def test_version_goes_from_candidate_to_production_to_archived(
    versions: tuple[Connection, dict[str, ModelVersion]],
) -> None:
    connection, _ = versions
    assert _states(connection) == {"a": "candidate", "b": "candidate", "c": "candidate"}
    _do(connection, Change.PROMOTE, "a", 3)
    _do(connection, Change.PROMOTE, "b", 4)
    assert _states(connection) == {"a": "archived", "b": "production", "c": "candidate"}
    assert _now_in_production(connection, T0 + 3.5 * HOUR) == "a", "what a replay of that time uses"
    assert _now_in_production(connection, T0 + 2 * HOUR) is None


def test_second_roll_back_goes_on_to_the_version_before(versions: tuple[Connection, dict[str, ModelVersion]]) -> None:
    connection, _ = versions
    for hours, name in ((3, "a"), (4, "b"), (5, "c")):
        _do(connection, Change.PROMOTE, name, hours)
    assert _do(connection, Change.ROLLBACK, "c", 6) == "b"
    assert _do(connection, Change.ROLLBACK, "b", 7) == "a"
    with pytest.raises(UserError, match="there was no version before a"):
        _do(connection, Change.ROLLBACK, "a", 8)
    with pytest.raises(UserError, match="c is not in production"):
        _do(connection, Change.ROLLBACK, "c", 8)
    assert [_now_in_production(connection, T0 + h * HOUR) for h in (5, 6, 7)] == ["c", "b", "a"]


def test_pinned_version_is_replaced_by_nobody(versions: tuple[Connection, dict[str, ModelVersion]]) -> None:
    connection, made = versions
    _do(connection, Change.PROMOTE, "a", 1)
    _do(connection, Change.PIN, "a", 2)
    assert promote_earned(connection, made["c"], "better") == "a is pinned"
    with pytest.raises(UserError, match="a is pinned: unpin it first"):
        _do(connection, Change.PROMOTE, "b", 3)
    with pytest.raises(psycopg.errors.CheckViolation, match="a is pinned"):
        models.promote(connection, made["b"], T0 + 3 * HOUR, "past the registry")
    connection.rollback()
    _do(connection, Change.UNPIN, "a", 4)
    _do(connection, Change.PROMOTE, "b", 5)
    assert _now_in_production(connection, T0 + 5 * HOUR) == "b"


@pytest.mark.parametrize(
    ("wanted", "model_id", "message"),
    [
        (Change.PROMOTE, "a", "a is in production already"),
        (Change.PROMOTE, "nonsense", "there is no model version nonsense"),
        (Change.PIN, "b", "b is not in production"),
        (Change.UNPIN, "a", "a is not pinned"),
        (Change.PROMOTE, "c", "c has learnt from data up to"),
    ],
)
def test_change_that_makes_no_sense_is_refused(
    versions: tuple[Connection, dict[str, ModelVersion]], wanted: Change, model_id: str, message: str
) -> None:
    connection, _ = versions
    _do(connection, Change.PROMOTE, "a", 0)
    with pytest.raises(UserError, match=message):
        _do(connection, wanted, model_id, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "update model_promotions set effective_from = effective_from - interval '1 day'",
        "update model_promotions set model_id = 'b'",
        "update model_pins set model_id = 'b'",
        "insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason, action) "
        "select 'b', instrument_id, '15m', now(), '', 'rollback' from instruments",
        "insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason) "
        "select 'a', instrument_id, '1h', now(), '' from instruments",
    ],
)
def test_database_refuses_to_rewrite_history(
    versions: tuple[Connection, dict[str, ModelVersion]], statement: str
) -> None:
    connection, _ = versions
    _do(connection, Change.PROMOTE, "a", 1)
    _do(connection, Change.PIN, "a", 2)
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(statement.encode())


def test_description_names_what_a_version_was_made_from_and_its_changes(
    versions: tuple[Connection, dict[str, ModelVersion]],
) -> None:
    connection, _ = versions
    _do(connection, Change.PROMOTE, "a", 1)
    _do(connection, Change.PIN, "a", 2)
    found = read.describe(connection, "a")
    assert found is not None
    assert (found["state"], found["pinned"], found["symbol"]) == ("production", True, "BTCUSDT")
    assert [c["action"] for c in found["changes"]] == ["promote", "pin"]
    assert {c["requested_by"] for c in found["changes"]} == {"somebody"}
    assert read.describe(connection, "nonsense") is None


@pytest.mark.usefixtures("embedded_only")
def test_dashboard_changes_models_from_now_on_only_and_nothing_else(
    database: str, versions: tuple[Connection, dict[str, ModelVersion]], tmp_path: Path
) -> None:
    connection, _ = versions
    file = tmp_path / "requester"
    ensure_requester(database, file)
    before = datetime.now(UTC)
    with connect(make_conninfo(database, user=REQUESTER, password=file.read_text())) as requester:
        assert requester.execute("select request_model_change('promote', 'b', 'looks good')").fetchone() == ("b",)
        requester.commit()
        for statement in (
            "select change_model('promote', 'a', 'me', '', '2020-01-01')",
            "insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason) "
            "select 'a', 1, '15m', now(), ''",
            "delete from model_promotions",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                requester.execute(statement.encode())
            requester.rollback()
    (moment, who) = connection.execute("select effective_from, requested_by from model_promotions").fetchone() or (0, 0)
    assert moment >= before
    assert who == "dashboard"


def test_versions_are_listed_with_their_state_production_first(
    versions: tuple[Connection, dict[str, ModelVersion]],
) -> None:
    connection, _ = versions
    _do(connection, Change.PROMOTE, "b", 2)
    _do(connection, Change.PIN, "b", 3)
    rows = read.list_versions(connection, "bybit", 10)
    assert rows[["model_id", "state", "pinned"]].iloc[0].tolist() == ["b", "production", True]
    assert set(rows["state"][1:]) == {"candidate"}
    assert read.drift(connection, "bybit", T0).empty
    assert read.feature_drift(connection, "b", 5).empty
    assert read.importance(connection, "b").empty
