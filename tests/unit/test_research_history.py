"""A window of a loaded history shows a strategy what the same span loaded alone would show."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
import pandas as pd

from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.research.history import MarketHistory
from trading_pipelines.domain.scoring.spec import FACTORS
from trading_pipelines.domain.strategies.base import (
    Bars,
    CompositeScores,
    Needs,
    Predictions,
    Signals,
    Strategy,
    StrategyInput,
)
from trading_pipelines.domain.strategies.proposals import propose

BARS, WARM_UP = 400, 100
LENGTH = Timeframe.M15.microseconds
EMPTY = pd.DataFrame({"ts": pd.Series(dtype="datetime64[us, UTC]"), "rate": pd.Series(dtype="float64")})


@dataclass(frozen=True)
class Always(Strategy):
    """Reads predictions and scores, and enters at every close."""

    name: ClassVar[str] = "always"

    @property
    def needs(self) -> Needs:
        return Needs(warm_up=WARM_UP, features=("rsi_14",), predictions=True, scores=True)

    def signals(self, data: StrategyInput) -> Signals:
        ones = np.ones(len(data.bars))
        return Signals(entry=ones.astype(np.int8), confidence=0.7 * ones, exit=(0 * ones).astype(np.uint8), atr=ones)


def seen(first: int, last: int, warm_up: int) -> StrategyInput:
    """Bars of [first, last) whose every value tells which bar it belongs to."""
    n = np.arange(first, last, dtype=np.float64)
    price = 100 + n
    whole = np.arange(first, last)
    return StrategyInput(
        bars=Bars("BTCUSDT", whole * LENGTH, price, price + 1, price - 1, price, n),
        timeframe=Timeframe.M15,
        warm_up=warm_up,
        features={"rsi_14": n},
        predictions=Predictions(n / BARS, whole % 3, whole * LENGTH, ("a", "b", "c"), novelty=n / 10),
        scores=CompositeScores(
            score=n,
            confidence=n / BARS,
            known=whole,
            bullish=whole,
            bearish=whole,
            values=np.tile(n, (len(FACTORS), 1)).T,
        ),
    )


def window() -> StrategyInput:
    """Bars 250 to 299 of a history."""
    market = Instrument("test", "BTCUSDT", "BTC", "USDT", MarketKind.PERPETUAL, Decimal(0), Decimal(0), Decimal(0))
    history = MarketHistory(Timeframe.M15, {"BTCUSDT": seen(0, BARS, WARM_UP)}, {"BTCUSDT": EMPTY}, {"BTCUSDT": market})
    cut = history.between(250 * LENGTH, 300 * LENGTH)
    assert cut is not None
    return cut.inputs[0]


def test_everything_of_a_window_is_that_of_its_own_bars() -> None:
    found = window()
    alone = seen(250 - WARM_UP, 300, WARM_UP)
    assert found.warm_up == WARM_UP
    assert found.predictions is not None
    assert alone.predictions is not None
    assert found.scores is not None
    assert alone.scores is not None
    assert found.predictions.model_ids == alone.predictions.model_ids
    np.testing.assert_array_equal(found.bars.ts, alone.bars.ts)
    np.testing.assert_array_equal(found.features["rsi_14"], alone.features["rsi_14"])
    for name in ("probability", "model", "as_of", "novelty"):
        np.testing.assert_array_equal(getattr(found.predictions, name), getattr(alone.predictions, name), name)
    for name in CompositeScores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found.scores, name), getattr(alone.scores, name), name)


def test_proposals_of_a_window_carry_the_novelty_and_the_score_of_their_bar() -> None:
    _, proposals = propose(Always(), window())
    bars = np.arange(250, 300)
    np.testing.assert_array_equal(proposals.novelty, bars / 10)
    np.testing.assert_array_equal(proposals.known, bars)
    np.testing.assert_array_equal(proposals.model_as_of, bars * LENGTH)
