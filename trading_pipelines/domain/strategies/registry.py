"""Strategies by name: those that ship, and where a strategy of one's own is found.

Belongs here: names, parameters and their errors. Does not belong here: reading a strategy from a file
(`application.signals.strategies`), and what a strategy does.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from trading_pipelines.domain.strategies.base import Strategy
from trading_pipelines.domain.strategies.composite import Composite
from trading_pipelines.domain.strategies.ema_cross import EmaCross
from trading_pipelines.domain.strategies.model_signals import ModelSignals
from trading_pipelines.domain.strategies.technical import Technical
from trading_pipelines.errors import UserError

STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {strategy.name: strategy for strategy in (ModelSignals, Technical, Composite, EmaCross)}
)
"""The strategies that ship, by name."""


def with_parameters(strategy: type[Strategy], params: Mapping[str, Any]) -> Strategy:
    """Build a strategy; texts, as a command line gives them, become what the parameter is.

    Raises
    ------
    UserError
        A parameter that the strategy does not have, or a value that it cannot take.
    """
    if not dataclasses.is_dataclass(strategy):
        raise UserError(f"{strategy.__qualname__} is not a dataclass: decorate it with @dataclass(frozen=True)")
    known = {f.name for f in dataclasses.fields(strategy) if f.init}
    hints = get_type_hints(strategy)
    for name in params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known)) or 'none'}"
            raise UserError(f"strategy {strategy.name} has no parameter {name!r}; {hint}")
    return strategy(**{name: _value(strategy, name, hints[name], value) for name, value in params.items()})


def unknown_strategy(name: str) -> UserError:
    """The error for a name that is no strategy."""
    near = difflib.get_close_matches(name, STRATEGIES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"shipped: {', '.join(STRATEGIES)}"
    return UserError(f"there is no strategy {name!r}; {hint} (your own: path/to/file.py:Class or package.module:Class)")


def _value(strategy: type[Strategy], name: str, wanted: Any, value: Any) -> Any:
    if wanted is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if wanted in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
            if wanted is float or number.is_integer():
                return wanted(number)
        except (TypeError, ValueError):
            pass
    elif not isinstance(wanted, type) or isinstance(value, wanted):
        return value
    raise UserError(f"parameter {name} of strategy {strategy.name} has to be {wanted.__name__}, not {value!r}")
