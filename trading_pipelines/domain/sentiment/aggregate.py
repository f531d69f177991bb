"""Put the scores of texts together to one number per coin and time.

Belongs here: weights, shrinkage, thresholds. Does not belong here: reading texts and storing the result.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]

_HOUR = np.timedelta64(1, "h")
ALL = "ALL"
"""In place of a source: all real ones together."""


class AggregationSpec(BaseModel):
    """How scores become a sentiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid_minutes: int = Field(default=30, ge=1, le=1440)
    """Distance of the instants for which a sentiment is stored."""
    half_life_hours: float = Field(default=8.0, gt=0)
    """Age at which a text counts half. Daily news predict returns for one to two days (Heston and Sinha 2017, "News vs.
    Sentiment", Financial Analysts Journal 73/3): after two days a text counts 1/64."""
    horizon_hours: float = Field(default=48.0, gt=0)
    """Older texts do not count at all."""
    prior_mentions: float = Field(default=2.0, ge=0)
    """Neutral texts that every coin has on top: a single enthusiastic post is no sentiment."""
    mention_hours: float = Field(default=24.0, gt=0)
    """Length of the window in which mentions are counted."""
    threshold_days: float = Field(default=30.0, gt=0)
    """History from which a coin's own thresholds are taken."""
    threshold_quantile: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of that history below the lower and above the upper threshold."""
    threshold_least: int = Field(default=96, ge=2)
    """Stored values below which the fixed thresholds hold."""
    threshold_fixed: float = Field(default=0.2, gt=0, lt=1)
    """Threshold on both sides for a coin with a short history."""

    def grid(self, start: datetime, end: datetime) -> list[datetime]:
        """Instants of the grid in (start, end], counted from midnight UTC of 1970."""
        step = timedelta(minutes=self.grid_minutes)
        epoch = datetime.fromtimestamp(0, tz=start.tzinfo)
        first = epoch + ((start - epoch) // step + 1) * step
        return [first + n * step for n in range(max(0, (end - first) // step + 1))]


@dataclass(frozen=True)
class Scored:
    """The scored texts that speak of one coin, in any order; arrays of one length.

    Attributes
    ----------
    published_at, known_at : numpy.ndarray
        datetime64[us]: when each text appeared, and from when on its score could be known.
    score, confidence : numpy.ndarray
        What the scorer said.
    share : numpy.ndarray
        How far the text is about the coin: the linker's confidence over the number of coins in the text.
    """

    published_at: Times
    known_at: Times
    score: Floats
    confidence: Floats
    share: Floats


@dataclass(frozen=True)
class Sentiment:
    """A coin's sentiment at one instant."""

    ts: datetime
    score: float
    mentions: int
    weight: float


def aggregate(texts: Scored, at: list[datetime], spec: AggregationSpec) -> list[Sentiment]:
    """Weigh what was known at each instant, given in ascending order.

    With age a and half-life h, text i weighs w_i = 2^(-a_i/h) * confidence_i * share_i, and the sentiment is
    sum(w_i * score_i) / (sum(w_i) + prior). The prior pulls towards neutral, and the less is known, the more: the mean
    of a posterior whose prior has mean zero and the weight of `prior_mentions` texts.

    Returns
    -------
    list of Sentiment
        One per instant at which any text counts; an instant without one has no sentiment rather than a neutral one.
    """
    if not at or not len(texts.score):
        return []
    # In an order of their own, so that the order of the rows changes no bit of a sum.
    order = np.lexsort((texts.share, texts.confidence, texts.score, texts.known_at, texts.published_at))
    published, known = texts.published_at[order], texts.known_at[order]
    instants = np.array([as_time(instant) for instant in at])
    # Each text counts at a run of instants: from its appearance on to the horizon.
    first = np.searchsorted(instants, np.maximum(published, known), side="left")
    last = np.searchsorted(instants, published + _microseconds(spec.horizon_hours), side="right")
    runs = np.maximum(last - first, 0)
    text = np.repeat(np.arange(len(order)), runs)
    place = np.arange(len(text)) - np.repeat(np.cumsum(runs) - runs, runs) + first[text]
    age = (instants[place] - published[text]) / _HOUR
    weight = 0.5 ** (age / spec.half_life_hours) * (texts.confidence * texts.share)[order][text]
    total = np.bincount(place, weight, len(at))
    signed = np.bincount(place, weight * texts.score[order][text], len(at))
    mentions = np.bincount(place[age <= spec.mention_hours], minlength=len(at))
    counted = np.bincount(place, minlength=len(at))
    score = np.divide(signed, total + spec.prior_mentions, out=np.zeros(len(at)), where=total + spec.prior_mentions > 0)
    return [
        Sentiment(at[n], float(np.clip(score[n], -1.0, 1.0)), int(mentions[n]), float(total[n]))
        for n in np.flatnonzero(counted).tolist()
    ]


def thresholds(history: Floats, spec: AggregationSpec) -> tuple[float, float]:
    """Below which value a coin's sentiment is unusually bad, and above which unusually good.

    Quantiles of its own recent values: for a coin that is always praised 0.3 is nothing. The lower one is never above
    zero, the upper never below.

    Parameters
    ----------
    history : numpy.ndarray
        Values that were known before, over `threshold_days`.
    """
    if len(history) < spec.threshold_least:
        return -spec.threshold_fixed, spec.threshold_fixed
    low, high = np.quantile(history, [spec.threshold_quantile, 1 - spec.threshold_quantile])
    return min(0.0, float(low)), max(0.0, float(high))


def _microseconds(hours: float) -> np.timedelta64:
    return np.timedelta64(round(hours * 3_600_000_000), "us")


def as_time(moment: datetime) -> np.datetime64:
    """An aware time as numpy holds it, UTC without saying so."""
    return np.datetime64(round(moment.timestamp() * 1_000_000), "us")
