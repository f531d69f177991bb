"""What computing stored rows again has found, for asset checks and `trading leakcheck` alike."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Difference:
    """One stored value that does not follow from what was known at its time.

    Attributes
    ----------
    subject, column : str
        Coin and what of it is stored.
    at : datetime
        When the value is said to have held or been known, UTC.
    recomputed : float or None
        None where nothing is to be stored at all.
    """

    subject: str
    column: str
    at: datetime
    stored: float
    recomputed: float | None

    def __str__(self) -> str:
        again = "nothing" if self.recomputed is None else f"{self.recomputed:.6g}"
        return f"{self.subject} {self.column} {self.at:%Y-%m-%d %H:%M}: {self.stored:.6g} stored, {again} was known"


@dataclass(frozen=True)
class Comparison:
    """How many stored values were computed again, and which came out differently."""

    compared: int
    differing: tuple[Difference, ...]
