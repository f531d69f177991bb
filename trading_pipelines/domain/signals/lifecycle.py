"""The life of a signal as a table of legal status changes; the database holds the same table."""

from enum import StrEnum


class SignalStatus(StrEnum):
    """Where a signal stands; everything after EXECUTED is about its position."""

    ACTIVE = "ACTIVE"
    EXECUTED = "EXECUTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    HIT_TP = "HIT_TP"
    HIT_SL = "HIT_SL"
    CLOSED = "CLOSED"


TRANSITIONS: frozenset[tuple[SignalStatus, SignalStatus]] = frozenset(
    {
        (SignalStatus.ACTIVE, SignalStatus.EXECUTED),
        (SignalStatus.ACTIVE, SignalStatus.EXPIRED),
        (SignalStatus.ACTIVE, SignalStatus.CANCELLED),
        (SignalStatus.ACTIVE, SignalStatus.REJECTED),
        (SignalStatus.EXECUTED, SignalStatus.HIT_TP),
        (SignalStatus.EXECUTED, SignalStatus.HIT_SL),
        (SignalStatus.EXECUTED, SignalStatus.CLOSED),
    }
)


class IllegalTransitionError(Exception):
    """A status change that the table of transitions does not hold."""


def check_transition(current: SignalStatus, new: SignalStatus) -> None:
    """Raise `IllegalTransitionError` unless `current` may become `new`."""
    if (current, new) not in TRANSITIONS:
        raise IllegalTransitionError(f"a signal that is {current} cannot become {new}")
