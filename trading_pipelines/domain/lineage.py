"""Which rows of a dated series a stored number was made of, and until when a row was read.

Belongs here: the reverse of the joins by which features (`domain.features.observations`) and inputs of the composite
score (`domain.scoring.inputs`) read a series; the named rows alone give the same number again. Does not belong here:
loading the rows, and what stands behind them (`store.read_models.source_rows`).
"""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.alternative.series import SERIES, Series
from trading_pipelines.domain.features.observations import MARGIN, OBSERVED, Measure, Observed, ObservedFeature
from trading_pipelines.domain.scoring.inputs import INPUTS, Input, Scope

Positions = npt.NDArray[np.intp]
Times = npt.NDArray[np.datetime64]

FUNDING = "funding_rate"
"""The settled rates of a market, read like a series of its symbol."""
FUNDING_AGE = timedelta(days=2)
"""Age from which the feature of that name (`FeatureInputs.funding_rate`) reads a rate no more."""
DATED: Mapping[str, Series] = {
    **SERIES,
    FUNDING: Series(
        FUNDING, "fraction", "what longs pay to shorts at a settlement", timedelta(0), timedelta(0), FUNDING_AGE
    ),
}
"""Everything from outside that features and scores read, by name."""
_NONE: Positions = np.empty(0, np.intp)


def rows_of_feature(feature: ObservedFeature, closes_at: np.datetime64, series: Observed) -> Positions:
    """Positions of the rows that a feature was made of at the close of a bar, the newest time last.

    Of each time the version that was known then; nothing where the newest was too old or had come too late.
    """
    moment = closes_at - _length(MARGIN)
    known = (series.available_at <= moment) & (series.available_at >= series.ts) & ~np.isnan(series.value)
    rows = _newest_versions(np.flatnonzero(known), series.ts)
    if not len(rows):
        return _NONE
    newest, came = series.ts[rows[-1]], series.available_at[rows[-1]]
    if moment - came > _length(SERIES[feature.series].max_age) or came - newest > _length(feature.max_delay):
        return _NONE
    age, window = newest - series.ts[rows], _length(timedelta(days=feature.days))
    match feature.measure:
        case Measure.LEVEL:
            return rows[-1:]
        case Measure.UNUSUAL:
            return rows[age < window]
        case Measure.CHANGE | Measure.LOG_CHANGE:
            earlier = rows[(age >= window) & (age <= _length(feature.window))]
            return np.concatenate((earlier[-1:], rows[-1:]))


def rows_of_input(each: Input, closes_at: np.datetime64, settling: timedelta, series: Observed) -> Positions:
    """Positions of the rows that an input of the score was made of at the close of a bar, the newest time last.

    An input with a norm reads every value as first published, and those of its norm with the one before it, from which
    the first change begins.
    """
    moment = closes_at - _length(settling)
    rows = np.lexsort((series.ts, series.available_at))
    if each.history:
        rows = rows[_is_newer(series.ts[rows])]
    rows = rows[series.available_at[rows] <= moment]
    if not len(rows):
        return _NONE
    newest = rows[np.flatnonzero(series.ts[rows] == series.ts[rows].max())[-1]]
    if moment - series.available_at[newest] > _length(each.max_age):
        return _NONE
    if not each.history:
        return np.array([newest])
    first = int(np.searchsorted(series.ts[rows], series.ts[newest] - _length(each.history), side="right"))
    return rows[max(first - 1, 0) :]


def rows_of_funding(closes_at: np.datetime64, ts: Times) -> Positions:
    """Position of the rate that the feature of funding is: the last that was settled before the close of a bar."""
    before = np.flatnonzero((ts < closes_at) & (ts >= closes_at - _length(FUNDING_AGE)))
    return before[np.argsort(ts[before], kind="stable")][-1:]


def looks_back(series: str) -> timedelta:
    """How long before the close of a bar a row may have become known that its features or its score are made of."""
    if series == FUNDING:
        return max(FUNDING_AGE, *(each.max_age + each.history for each in INPUTS if each.name == "funding"))
    ages = [each.max_age + each.history for each in INPUTS if each.name == series]
    return max(ages + [feature.history for feature in OBSERVED if feature.series == series], default=timedelta(0))


def reach_in_features(series: str, *, market: bool) -> timedelta | None:
    """By how much a newer value may follow while a value is still part of features; None if it is part of none."""
    if series == FUNDING:
        return timedelta(0)
    return max((f.window for f in OBSERVED if f.series == series and f.market == market), default=None)


def reach_in_scores(series: str, *, market: bool) -> timedelta | None:
    """The same for the inputs of the composite score."""
    scope = Scope.MARKET if market else Scope.COIN
    name, scope = ("funding", Scope.INSTRUMENT) if series == FUNDING else (series, scope)
    return max((each.history for each in INPUTS if each.name == name and each.scope is scope), default=None)


def _newest_versions(rows: Positions, ts: Times) -> Positions:
    """Of each time the row that came last, ascending in time."""
    rows = rows[np.argsort(ts[rows], kind="stable")]
    return rows[np.append(ts[rows][1:] != ts[rows][:-1], True)] if len(rows) else rows


def _is_newer(ts: Times) -> npt.NDArray[np.bool_]:
    """Whether a row speaks of a later time than all that came before it."""
    newer = np.ones(len(ts), np.bool_)
    newer[1:] = ts[1:] > np.maximum.accumulate(ts)[:-1]
    return newer


def _length(time: timedelta) -> np.timedelta64:
    return np.timedelta64(time, "us")
