"""The strategy interface: what strategies see, how they are found, and what the shipped ones say."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from trading_pipelines.application.signals.strategies import build_strategy
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.strategies.base import (
    CLOSE_LONG,
    CLOSE_SHORT,
    NO_MODEL,
    Bars,
    Predictions,
    Signals,
    Strategy,
    StrategyInput,
)
from trading_pipelines.domain.strategies.ema_cross import EmaCross
from trading_pipelines.domain.strategies.model_signals import ModelSignals
from trading_pipelines.domain.strategies.proposals import propose
from trading_pipelines.errors import UserError

QUARTER = Timeframe.M15.microseconds
NAN = float("nan")


def bars(n: int, timeframe: Timeframe = Timeframe.M15, seed: int = 1) -> Bars:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.004, n)))
    return Bars("AUSDT", np.arange(n) * timeframe.microseconds, close, close * 1.001, close * 0.999, close, np.ones(n))


def predicted(*probability: float, features: float = 1.0) -> StrategyInput:
    n = len(probability)
    known = np.isfinite(probability)
    return StrategyInput(
        bars(n),
        Timeframe.M15,
        features={"atr_14": np.full(n, features), "atr_ratio": np.full(n, 1.0), "anomaly_16": np.full(n, 0.2)},
        predictions=Predictions(
            np.array(probability), np.where(known, 0, -1), np.where(known, 5, NO_MODEL), ("BTC_USDT_15m_1",)
        ),
    )


def test_longer_bar_is_seen_when_it_has_closed_and_not_before() -> None:
    data = StrategyInput(bars(10), Timeframe.M15, higher={Timeframe.H1: bars(3, Timeframe.H1)})
    assert data.latest(Timeframe.H1).tolist() == [-1, -1, -1, 0, 0, 0, 0, 1, 1, 1]


def test_what_was_known_before_a_bar_ends_with_what_had_closed() -> None:
    whole = StrategyInput(
        bars(10),
        Timeframe.M15,
        higher={Timeframe.H1: bars(3, Timeframe.H1)},
        features={"x": np.arange(10.0)},
        predictions=predicted(*[0.5] * 10).predictions,
    )
    cut = whole.before(7)
    assert len(cut.bars) == len(cut.features["x"]) == 7
    assert cut.predictions is not None
    assert len(cut.predictions.probability) == 7
    assert len(cut.higher[Timeframe.H1]) == 1
    assert len(whole.before(8).higher[Timeframe.H1]) == 2


def test_model_signals_take_the_side_of_the_prediction_and_leave_when_it_turns() -> None:
    told = ModelSignals().signals(predicted(0.6, 0.4, 0.39, 0.61, 0.5, NAN))
    assert told.entry.tolist() == [1, -1, -1, 1, 1, 0]
    assert told.exit.tolist() == [0, 0, CLOSE_LONG, CLOSE_SHORT, 0, 0]
    assert told.confidence[:5].tolist() == [0.6, 0.6, 0.61, 0.61, 0.5]


def test_proposals_carry_the_model_and_leave_the_warm_up_out() -> None:
    _, proposals = propose(ModelSignals(), predicted(0.6, NAN))
    assert proposals.asks_model.all()
    assert (proposals.model_as_of != NO_MODEL).tolist() == [True, False]
    told, late = propose(EmaCross(fast=2, slow=4), StrategyInput(bars(60), Timeframe.M15, warm_up=40))
    assert len(late) == len(told.entry) == len(told.factors["ema_fast"]) == 20
    assert not late.asks_model.any()
    assert late.closed_at[0] == 41 * QUARTER


def test_ema_cross_answers_the_same_whatever_lies_before_its_warm_up() -> None:
    strategy = EmaCross(fast=5, slow=20)
    history = bars(3_000)
    whole = strategy.signals(StrategyInput(history, Timeframe.M15))
    first = 3_000 - strategy.needs.warm_up - 500
    part = Bars(
        history.symbol, *(getattr(history, name)[first:] for name in ("ts", "open", "high", "low", "close", "volume"))
    )
    late = strategy.signals(StrategyInput(part, Timeframe.M15))
    assert whole.entry[-500:].tolist() == late.entry[-500:].tolist()
    np.testing.assert_allclose(whole.atr[-500:], late.atr[-500:], rtol=1e-12)


def test_answer_of_the_wrong_length_names_strategy_and_array() -> None:
    @dataclass(frozen=True)
    class Short(Strategy):
        name: ClassVar[str] = "short"

        def signals(self, data: StrategyInput) -> Signals:
            n = len(data.bars)
            return Signals(np.zeros(n, np.int8), np.zeros(n - 1), np.zeros(n, np.uint8), np.ones(n))

    with pytest.raises(ValueError, match="short: confidence has 4 values for 5 bars"):
        propose(Short(), StrategyInput(bars(5), Timeframe.M15))


def test_parameters_given_as_text_become_numbers() -> None:
    assert build_strategy("ema_cross", {"fast": "10", "confidence": "0.7"}) == EmaCross(fast=10, confidence=0.7)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ema_crss", {}, "did you mean ema_cross"),
        ("own", {}, "shipped: "),
        ("ema_cross", {"fats": 3}, "no parameter 'fats'; did you mean fast"),
        ("ema_cross", {"fast": "quick"}, "fast of strategy ema_cross has to be int, not 'quick'"),
        ("ema_cross", {"fast": 2.5}, "has to be int"),
        ("ema_cross", {"fast": 90}, "2 <= fast < slow"),
        ("model_signals", {"exit_confidence": 0.7}, "from 0 to 0.5"),
        ("nowhere.py:Own", {}, "no strategy file nowhere.py"),
        ("no_such_module:Own", {}, "cannot be imported"),
        ("trading_pipelines.errors:UserError", {}, "no class UserError that inherits Strategy"),
    ],
)
def test_wrong_name_or_parameter_says_what_to_do(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_strategy(name, params)


OWN = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading_pipelines.domain.strategies.base import Signals, Strategy


@dataclass(frozen=True)
class Own(Strategy):
    name: ClassVar[str] = "own"
    confidence: float = 0.6

    def signals(self, data):
        n = len(data.bars)
        return Signals(np.ones(n, np.int8), np.full(n, self.confidence), np.zeros(n, np.uint8), np.ones(n))
"""


def test_strategy_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    strategy = build_strategy(f"{file}:Own", {"confidence": 0.9})
    told, _ = propose(strategy, StrategyInput(bars(4), Timeframe.M15))
    assert (strategy.name, told.confidence.tolist()) == ("own", [0.9] * 4)


def test_file_with_a_mistake_is_named_with_the_mistake(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_library")
    with pytest.raises(UserError, match=r"broken\.py cannot be loaded: ModuleNotFoundError: No module named"):
        build_strategy(f"{file}:Own")
