"""One tape through backtest, replay, the live path bar by bar, and the fast service tick by tick: all the same."""

from collections.abc import Iterator

import pytest
from drivers import SIGNAL, run_monitor, run_paper
from stages import END, START, WORSE, Stage, assert_busy, assert_same, simulated_tape, staged

from trading_pipelines.domain.parity import DecisionRecord, FillRecord, compare

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stage(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Half a day of the simulated market."""
    data_dir = tmp_path_factory.mktemp("drivers")
    with staged(server_url, template, "drivers", data_dir, simulated_tape(), START, END) as opened:
        yield opened


@pytest.mark.parametrize("strategy", ["model_signals", "technical", "composite", "ema_cross"])
def test_four_drivers_decide_and_fill_alike(stage: Stage, strategy: str) -> None:
    settings = stage.settings(strategy)
    replayed = stage.replayed(settings)
    assert_busy(replayed)
    assert_same(stage.backtested(settings), replayed)
    assert_same(stage.live(run_paper, settings), replayed)
    assert_same(stage.live(run_monitor, settings), replayed)


def test_other_slippage_is_found_in_the_first_entry(stage: Stage) -> None:
    settings = stage.settings("model_signals")
    replayed = stage.replayed(settings)
    found = compare(stage.backtested(settings, execution=WORSE), replayed)
    assert found is not None
    first = next(fill for fill in replayed.fills if fill.kind == "ENTRY")
    assert (found.what, found.at, found.field) == ("fill", first.ts, "quantity")
    assert isinstance(found.first, FillRecord)
    assert found.first.quantity < first.quantity


def test_another_gate_is_found_in_the_first_decision_that_it_changes(stage: Stage) -> None:
    settings = stage.settings("model_signals")
    replayed = stage.replayed(settings)
    stricter = settings.signals.model_copy(update={"min_confidence": 0.55})
    found = compare(stage.backtested(settings, policy=stricter), replayed)
    assert found is not None
    assert (found.what, found.field) == ("decision", "outcome")
    assert isinstance(found.first, DecisionRecord)
    assert isinstance(found.second, DecisionRecord)
    assert (found.first.reason, found.second.outcome) == ("confidence", "SIGNAL")
    earlier = [d for d in replayed.decisions if d.ts + SIGNAL.delta < found.at and d.outcome == "SIGNAL"]
    passed = [d for d in stage.backtested(settings, policy=stricter).decisions if d in earlier]
    assert passed == earlier


def test_a_live_path_that_manages_positions_one_bar_late_is_found_in_the_first_fill_that_it_changes(
    stage: Stage,
) -> None:
    settings = stage.settings("model_signals")
    replayed, late = stage.replayed(settings), stage.live(run_paper, settings, trails_late=True)
    found = compare(late, replayed)
    assert found is not None
    assert found.what == "fill"
    assert [f for f in late.fills if f.ts < found.at] == [f for f in replayed.fills if f.ts < found.at]
    assert late.decisions[0] == replayed.decisions[0]
