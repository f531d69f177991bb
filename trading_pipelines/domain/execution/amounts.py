"""Floats of the calculations as decimals of the order border and of the books."""

from decimal import ROUND_HALF_EVEN, Decimal

_MONEY_STEP = Decimal("1e-12")


def exact(value: float) -> Decimal:
    """The shortest decimal that reads back as the same float."""
    return Decimal(repr(float(value)))


def money(value: float | Decimal) -> Decimal:
    """An amount in quote currency on a grid so fine that sums of amounts stay exact."""
    amount = value if isinstance(value, Decimal) else exact(value)
    return amount.quantize(_MONEY_STEP, rounding=ROUND_HALF_EVEN)


def on_grid(value: float, step: Decimal) -> Decimal:
    """The multiple of `step` that is nearest to a float; with a step of zero the float itself."""
    amount = exact(value)
    return amount if step == 0 else (amount / step).quantize(Decimal(1), rounding=ROUND_HALF_EVEN) * step


def round_down(amount: Decimal, step: Decimal) -> Decimal:
    """Largest multiple of `step` not above an amount; with a step of zero the amount itself."""
    return amount if step == 0 else amount // step * step
