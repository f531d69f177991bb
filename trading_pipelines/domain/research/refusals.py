"""What gates and risk rules refused in a backtest, kept in one mapping.

Belongs here: telling both apart by name, for a gate and a rule may share one. Does not belong here: gates
(`domain.signals.gates`) and rules (`domain.risk.rules`).
"""

from collections.abc import Mapping

_GATE = "gate "


def together(rules: Mapping[str, int], gates: Mapping[str, int]) -> dict[str, int]:
    """Candidates that each rule refused, and proposals that each gate refused."""
    return {**rules, **{f"{_GATE}{name}": count for name, count in gates.items()}}


def of_rules(refusals: Mapping[str, int]) -> dict[str, int]:
    """Candidates that each risk rule refused."""
    return {name: count for name, count in refusals.items() if not name.startswith(_GATE)}


def of_gates(refusals: Mapping[str, int]) -> dict[str, int]:
    """Proposals that each gate refused before they became candidates."""
    return {name.removeprefix(_GATE): count for name, count in refusals.items() if name.startswith(_GATE)}
