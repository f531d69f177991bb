"""Find a strategy by its name, also one that a user has written."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from trading_pipelines.domain.strategies.base import Strategy
from trading_pipelines.domain.strategies.registry import STRATEGIES, unknown_strategy, with_parameters
from trading_pipelines.errors import UserError


def build_strategy(name: str, params: Mapping[str, Any] | None = None) -> Strategy:
    """Build a strategy from its name and parameters.

    A shipped one goes by its name, one's own by ``path/to/file.py:Class`` or ``package.module:Class``. The file is
    executed: name only files that you trust.

    Raises
    ------
    UserError
        Unknown name, a file without that class, a class that is no `Strategy`, a wrong parameter.
    """
    return with_parameters(STRATEGIES[name] if name in STRATEGIES else _own(name), params or {})


def _own(name: str) -> type[Strategy]:
    place, colon, class_name = name.rpartition(":")
    if not colon or not place or not class_name:
        raise unknown_strategy(name)
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UserError(f"{place} has no class {class_name} that inherits Strategy: see docs/strategies.md")
    return found


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no strategy file {path}: name it as path/to/file.py:Class")
    spec = importlib.util.spec_from_file_location(f"strategy_{path.stem}", path.resolve())
    assert spec is not None  # a .py file always has a spec
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"strategy file {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UserError(f"strategy module {name} cannot be imported: {type(error).__name__}: {error}") from error
