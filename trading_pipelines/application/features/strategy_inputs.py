"""Load what strategies see: the same series for a live bar, a replayed day and a backtest of years."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.domain.scoring.spec import FACTORS
from trading_pipelines.domain.strategies.base import (
    NO_MODEL,
    Bars,
    CompositeScores,
    Needs,
    Predictions,
    StrategyInput,
)
from trading_pipelines.store.repositories import candles, predictions, scores
from trading_pipelines.store.repositories import features as feature_store


def load_input(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    symbol: str,
    timeframe: Timeframe,
    needs: Needs,
    start: datetime,
    end: datetime,
) -> StrategyInput:
    """Load one symbol's bars that open in [start, end), preceded by the history that the strategy `needs`.

    Of the longer timeframes everything that had closed by the last bar's close is loaded; features, predictions and
    scores are those of [start, end), NaN in the warm-up.
    """
    frame = candles.read_candles(connection, instrument_id, timeframe, start - needs.warm_up * timeframe.delta, end)
    bars = to_bars(symbol, frame)
    warm_up = int(np.searchsorted(bars.ts, to_microseconds(start)))
    last_close = from_microseconds(int(bars.ts[-1])) + timeframe.delta if len(bars) else end
    higher = {
        longer: to_bars(
            symbol,
            candles.read_candles(
                connection,
                instrument_id,
                longer,
                longer.floor(start) - history * longer.delta,
                longer.floor(last_close),
            ),
        )
        for longer, history in needs.higher.items()
    }
    return StrategyInput(
        bars=bars,
        timeframe=timeframe,
        warm_up=warm_up,
        higher=higher,
        features=_features(connection, instrument_id, timeframe, needs.features, bars, start, end),
        predictions=_predictions(connection, instrument_id, timeframe, bars, start, end) if needs.predictions else None,
        scores=_scores(connection, instrument_id, timeframe, bars, start, end, needed=needs.scores),
    )


def to_bars(symbol: str, frame: pd.DataFrame) -> Bars:
    """A candle frame as arrays."""
    ts = pd.DatetimeIndex(frame["ts"]).as_unit("us").asi8
    values = [frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")]
    return Bars(symbol, ts, *values)


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    difference = moment - EPOCH
    return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds


def from_microseconds(value: int) -> datetime:
    """The reverse of `to_microseconds`, in UTC."""
    return pd.Timestamp(value, unit="us", tz=UTC).to_pydatetime()


def _features(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    names: Sequence[str],
    bars: Bars,
    start: datetime,
    end: datetime,
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """The wanted columns of the stored features, on the bars."""
    if not names:
        return {}
    matrix = feature_store.read_features(
        connection, instrument_id, current_feature_set(connection), timeframe, len(registry.NAMES), start, end
    )
    rows, known = _positions(bars, matrix.ts.astype("datetime64[us]").astype(np.int64))
    columns = [registry.NAMES.index(name) for name in names]
    values = np.full((len(names), len(bars)), np.nan)
    values[:, rows] = matrix.values[known][:, columns].T
    return dict(zip(names, values, strict=True))


def _predictions(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    bars: Bars,
    start: datetime,
    end: datetime,
) -> Predictions:
    """What was predicted, on the bars."""
    found = predictions.in_production(connection, instrument_id, timeframe, start, end)
    model_ids = tuple(dict.fromkeys(row.model_id for row in found))
    position = {model_id: i for i, model_id in enumerate(model_ids)}
    rows, known = _positions(bars, np.array([to_microseconds(row.ts) for row in found], dtype=np.int64))
    novelty = np.full(len(bars), np.nan)
    told = Predictions(
        np.full(len(bars), np.nan), np.full(len(bars), -1), np.full(len(bars), NO_MODEL), model_ids, novelty
    )
    told.probability[rows] = np.array([row.probability for row in found])[known]
    novelty[rows] = np.array([row.novelty for row in found], dtype=np.float64)[known]
    told.model[rows] = np.array([position[row.model_id] for row in found], dtype=np.int64)[known]
    told.as_of[rows] = np.array([to_microseconds(row.model_as_of) for row in found], dtype=np.int64)[known]
    return told


def _scores(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    bars: Bars,
    start: datetime,
    end: datetime,
    *,
    needed: bool,
) -> CompositeScores | None:
    """The composite scores, on the bars; None where there are none and none are needed."""
    found = scores.read(connection, instrument_id, timeframe, start, end)
    if not needed and not len(found["ts"]):
        return None
    rows, known = _positions(bars, found["ts"].astype("datetime64[us]").astype(np.int64))
    n = len(bars)
    told = CompositeScores(
        score=np.full(n, np.nan),
        confidence=np.full(n, np.nan),
        known=np.zeros(n, np.int64),
        bullish=np.zeros(n, np.int64),
        bearish=np.zeros(n, np.int64),
        values=np.full((n, len(FACTORS)), np.nan),
    )
    for name in CompositeScores.__dataclass_fields__:
        getattr(told, name)[rows] = found[name][known]
    return told


def _positions(
    bars: Bars, ts: np.ndarray[Any, np.dtype[np.int64]]
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Positions on the bars of the times that are bars, and which times those are."""
    at = np.searchsorted(bars.ts, ts)
    known = at < len(bars)
    known[known] = bars.ts[at[known]] == ts[known]
    return at[known], known
