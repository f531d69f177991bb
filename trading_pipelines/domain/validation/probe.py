"""Ask any computation the same again with everything later taken away.

A feature is a function from series to a column, a score or prediction a function to a row of numbers, a strategy one to
entries. Whatever it does inside, an answer about a moment that changes when the later rows are gone has used them.

Belongs here: that one question, for functions of any kind of data, and the same for a training: no row that is learnt,
scaled, selected or calibrated from may have a label that ends in the time that is tested. Does not belong here: our own
features (`domain.validation.leakage`) and strategies (`domain.validation.strategy_check`), which have checks that know
their inputs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9
Times = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Series:
    """Rows with the moment from which each could be known; several rows may be versions of the same thing.

    Attributes
    ----------
    available_at : array of datetime64
        Ascending.
    """

    available_at: Times
    columns: Mapping[str, npt.NDArray[np.float64]]

    def known_at(self, moment: np.datetime64) -> "Series":
        """The rows that were available by then."""
        n = int(np.searchsorted(self.available_at, moment, side="right"))
        return Series(self.available_at[:n], {name: values[:n] for name, values in self.columns.items()})


World = Mapping[str, Series]
"""Series by name."""
Computation = Callable[[World], Mapping[str, npt.NDArray[np.float64]]]
"""From series to columns, a value per row of the series that it is asked about."""


@dataclass(frozen=True)
class Leak:
    """A column that knew the future; `first` is the earliest asked moment at which it did, at its `row`."""

    column: str
    row: int
    first: np.datetime64
    stored: float
    recomputed: float


def find_leaks(compute: Computation, world: World, about: str, rows: Iterable[int]) -> list[Leak]:
    """Compute columns from everything, and again as of the moment of each row; the first difference of each column.

    All answers up to the asked row are compared: a rule such as "the high of the day" is right at the high itself and
    betrays itself only at what looked like one before.

    Parameters
    ----------
    about : str
        Name of the series whose rows the columns describe.
    """
    full = compute(world)
    moments = world[about].available_at
    found: dict[str, Leak] = {}
    for row in sorted(rows):
        alone = compute({name: series.known_at(moments[row]) for name, series in world.items()})
        for column, values in alone.items():
            same = np.isclose(full[column][: row + 1], values, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            if same.all():
                continue
            at = int(np.argmin(same))
            if column not in found or at < found[column].row:
                found[column] = Leak(column, at, moments[at], float(full[column][at]), float(values[at]))
    return list(found.values())


def choose_rows(columns: Mapping[str, npt.NDArray[np.float64]], first: int, samples: int, seed: int) -> list[int]:
    """Rows to ask about: some at random, and as many at which each column has just changed.

    A rule that looks ahead only where it decides betrays itself at its decisions, which are rare.
    """
    draw = np.random.default_rng(seed)
    chosen: set[int] = set()
    for values in columns.values():
        changed = np.flatnonzero(np.diff(values) != 0) + 1
        for pool in (np.arange(first, len(values)), changed[changed >= first]):
            chosen |= {int(row) for row in draw.choice(pool, min(samples, len(pool)), replace=False).tolist()}
    return sorted(chosen)


def find_overlap(label_end: Times, known_at: Times, used: Sequence[int], tested: Sequence[int]) -> list[Leak]:
    """Rows that something was fitted on although their label ends after the test has begun; the first of them."""
    start = known_at[min(tested)]
    late = [row for row in sorted(used) if label_end[row] > start]
    late = [row for row in late if known_at[row] <= known_at[max(tested)]]
    if not late:
        return []
    first = late[0]
    return [Leak("fitted_on", first, known_at[first], float(first), float(min(tested)))]


def find_impossible_fills(
    decided_at: Times,
    price: npt.NDArray[np.float64],
    at: Times,
    bars_ts: Times,
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
) -> list[Leak]:
    """Fills at a moment before their decision, or at a price that the bar they name did not have; the first of them."""
    for row in range(len(price)):
        bar = int(np.count_nonzero(bars_ts <= at[row])) - 1
        if at[row] < decided_at[row] or not low[bar] <= price[row] <= high[bar]:
            return [Leak("fill", row, at[row], float(price[row]), float("nan"))]
    return []
