"""The application reads through the read models, asks through the actions, and knows nothing else of the platform."""

import ast
from pathlib import Path

import pytest
from page_driver import APP

ALLOWED = tuple(f"trading_pipelines.{part}" for part in ("store.read_models", "store.actions", "settings", "errors"))
FORBIDDEN = ("psycopg", "sqlalchemy", "adbc_driver_postgresql", "dagster", "ccxt")
MODULES = sorted(APP.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=[str(m.relative_to(APP)) for m in MODULES])
def test_module_imports_only_read_models_actions_and_settings(module: Path) -> None:
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")

    platform = [name for name in names if name.startswith("trading_pipelines")]
    assert [name for name in platform if not name.startswith(ALLOWED)] == []
    assert [name for name in names if name.split(".")[0] in FORBIDDEN] == []
