"""Walk-forward splits in time, with purge and embargo.

A training sample whose label ends inside or after the test window would tell the model about it; it is purged. The
embargo keeps a further stretch before the test window out, because neighbouring bars resemble each other.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Times = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Fold:
    """One split: indices of the samples to learn from and of those to be judged by."""

    number: int
    train: Indices
    test: Indices


@dataclass(frozen=True)
class WalkForward:
    """Test windows of equal length that end one after the other at the newest sample.

    Attributes
    ----------
    train, test, embargo : timedelta64
        Length of the training window (None: anchored, everything before), of the test window, and of the embargo.
    folds : int
        Number of test windows.
    """

    train: np.timedelta64 | None
    test: np.timedelta64
    embargo: np.timedelta64
    folds: int

    def split(self, ts: Times, label_end: Times) -> Iterator[Fold]:
        """Yield the folds, oldest first.

        Parameters
        ----------
        ts : array of datetime64
            When each sample was known (close of its bar), ascending.
        label_end : array of datetime64
            When each sample's label was known.
        """
        last = ts[-1]
        for number in range(self.folds):
            test_end = last - (self.folds - 1 - number) * self.test
            test_start = test_end - self.test
            test = (ts > test_start) & (ts <= test_end)
            train = training_window(ts, label_end, test_start, self.train, self.embargo)
            yield Fold(number, np.flatnonzero(train), np.flatnonzero(test))


@dataclass(frozen=True)
class TimedFolds:
    """The splits of one data set, as scikit-learn's `cv` argument takes them.

    Attributes
    ----------
    ts, label_end : array of datetime64
        As in `WalkForward.split`, one per row of the data.
    """

    walk_forward: WalkForward
    ts: Times
    label_end: Times

    def split(self, X: Sized, y: object = None, groups: object = None) -> Iterator[tuple[Indices, Indices]]:  # noqa: N803  # scikit-learn's name
        """Yield training and test rows; `ValueError` when `X` has another number of rows."""
        if len(X) != len(self.ts):
            raise ValueError(f"{len(X)} rows, but times of {len(self.ts)}")
        for fold in self.walk_forward.split(self.ts, self.label_end):
            yield fold.train, fold.test

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:  # noqa: N803  # as above
        """Number of splits."""
        return self.walk_forward.folds


def training_window(
    ts: Times, label_end: Times, until: np.datetime64, length: np.timedelta64 | None, embargo: np.timedelta64
) -> npt.NDArray[np.bool_]:
    """Samples that may be learnt from at `until`: known label by then, less the embargo, not older than `length`."""
    usable = label_end <= until - embargo
    return usable if length is None else usable & (ts > until - length)
