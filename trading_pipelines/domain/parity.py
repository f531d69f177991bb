"""Whether two drivers of the same tape did the same: normalised records, their fingerprint, the first difference.

Belongs here: what a decision and a fill are for this question, and how two runs are compared. Does not belong here:
where the records come from (`application.research.parity`) and what the drivers do.

What differs between drivers without meaning anything is left out: ids, wall-clock times inside a bar, floats beyond
the venue's grid.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import groupby

from trading_pipelines.domain.market.timeframe import Timeframe

SIGNIFICANT_DIGITS = 8
"""Of a number for which the venue has no step; float and decimal accounts differ after about twelve."""

_SIGNIFICANT = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True)
class DecisionRecord:
    """What was decided about one symbol at the close of one bar.

    Attributes
    ----------
    ts : datetime
        Open time of the bar.
    reason : str
        First gate that refused; of a signal always the same text.
    confidence : Decimal or None
        Of the set-up, to `SIGNIFICANT_DIGITS`; None without one.
    taken : bool or None
        Whether the order path sent an entry for it; None where the driver does not know.
    """

    ts: datetime
    symbol: str
    strategy: str
    outcome: str
    side: str | None
    reason: str
    confidence: Decimal | None = None
    taken: bool | None = None


@dataclass(frozen=True)
class FillRecord:
    """One fill; `ts` is the open time of the bar of the finest timeframe in which it happened.

    Attributes
    ----------
    quantity, reference_price : Decimal
        On the venue's grid, the price before slippage.
    """

    ts: datetime
    symbol: str
    kind: str
    side: str
    quantity: Decimal
    reference_price: Decimal


@dataclass(frozen=True)
class Records:
    """All that one driver did, decisions by time, symbol and strategy, fills by time and symbol in their own order."""

    timeframe: Timeframe
    decisions: tuple[DecisionRecord, ...]
    fills: tuple[FillRecord, ...]

    @classmethod
    def of(
        cls, timeframe: Timeframe, decisions: Iterable[DecisionRecord], fills: Iterable[FillRecord] = ()
    ) -> "Records":
        """Bring records into their order."""
        return cls(
            timeframe,
            tuple(sorted(decisions, key=lambda d: (d.ts, d.symbol, d.strategy))),
            tuple(sorted(fills, key=lambda f: (f.ts, f.symbol))),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all records; equal for two drivers that did the same."""
        digest = hashlib.sha256()
        for record in (*self.decisions, *self.fills):
            digest.update(json.dumps(_plain(record), sort_keys=True).encode())
            digest.update(b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class Divergence:
    """The first difference between two drivers.

    Attributes
    ----------
    what : str
        `decision` or `fill`.
    at : datetime
        When it happened: the close of the decision's bar, the open of the fill's.
    field : str
        Name of the first field that differs; `missing` where one of the two has no such record at all.
    first, second : record or None
        Both versions.
    """

    what: str
    at: datetime
    symbol: str
    field: str
    first: DecisionRecord | FillRecord | None
    second: DecisionRecord | FillRecord | None

    def __str__(self) -> str:
        """One line for people."""
        where = f"{self.what} of {self.symbol} at {self.at:%Y-%m-%d %H:%M}"
        if self.first is None or self.second is None:
            one, record = ("second", self.second) if self.first is None else ("first", self.first)
            return f"{where}: only the {one} has it: {in_words(record)}"
        return f"{where}: {self.field} differs: {in_words(self.first)} | {in_words(self.second)}"

    def as_json(self) -> dict[str, object]:
        """The divergence as plain values, times as ISO text and amounts as text."""
        return {
            "what": self.what,
            "at": self.at.isoformat(),
            "symbol": self.symbol,
            "field": self.field,
            "first": None if self.first is None else _plain(self.first),
            "second": None if self.second is None else _plain(self.second),
        }


def compare(first: Records, second: Records) -> Divergence | None:
    """Find the first decision or fill that two drivers do not share, None when they did the same.

    Of a decision and a fill at the same moment the decision comes first: the fill follows from what was decided.
    """
    found = [*_decision_divergences(first, second), *_fill_divergences(first, second)]
    return min(found, key=lambda d: (d.at, d.what, d.symbol), default=None)


def on_grid(value: float | Decimal, step: Decimal) -> Decimal:
    """The number on the venue's grid, or with `SIGNIFICANT_DIGITS` where there is none."""
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    return ((exact / step).quantize(Decimal(1)) * step).normalize() if step > 0 else significant(exact)


def significant(value: float | Decimal) -> Decimal:
    """The number with `SIGNIFICANT_DIGITS`."""
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    return _SIGNIFICANT.create_decimal(exact).normalize()


def in_words(record: DecisionRecord | FillRecord | None) -> str:
    """One record for people."""
    match record:
        case DecisionRecord():
            taken = {None: "", True: ", taken", False: ", not taken"}[record.taken]
            setup = f" {record.side} {record.confidence:f}" if record.side and record.confidence is not None else ""
            return f"{record.strategy} {record.outcome}{setup} ({record.reason}{taken})"
        case FillRecord():
            return f"{record.kind} {record.side} {record.quantity:f} at {record.reference_price:f}"
        case None:
            return "nothing"


def _decision_divergences(first: Records, second: Records) -> list[Divergence]:
    length = first.timeframe.delta
    ours = {(d.ts, d.symbol, d.strategy): d for d in first.decisions}
    theirs = {(d.ts, d.symbol, d.strategy): d for d in second.decisions}
    return [
        Divergence("decision", key[0] + length, key[1], field, ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if (field := _differing(ours.get(key), theirs.get(key))) is not None
    ]


def _fill_divergences(first: Records, second: Records) -> list[Divergence]:
    ours, theirs = _numbered(first.fills), _numbered(second.fills)
    return [
        Divergence("fill", key[0], key[1], field, ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if (field := _differing(ours.get(key), theirs.get(key))) is not None
    ]


def _numbered(fills: Sequence[FillRecord]) -> dict[tuple[datetime, str, int], FillRecord]:
    """Fills by bar, symbol and their number within the two."""
    return {
        (ts, symbol, i): fill
        for (ts, symbol), group in groupby(fills, key=lambda f: (f.ts, f.symbol))
        for i, fill in enumerate(group)
    }


def _differing(first: DecisionRecord | FillRecord | None, second: DecisionRecord | FillRecord | None) -> str | None:
    """Name of the first field that differs; one that a driver does not know differs from nothing."""
    if first is None or second is None:
        return "missing"
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if a != b and not (field.name == "taken" and (a is None or b is None)):
            return field.name
    return None


def _plain(record: DecisionRecord | FillRecord) -> dict[str, object]:
    values = asdict(record)
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else f"{value:f}"
        if isinstance(value, Decimal)
        else value
        for name, value in values.items()
    }
