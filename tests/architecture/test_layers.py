"""Who may import whom, and what the domain may not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_import_contracts_hold(root: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([linter, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_dashboard_reads_through_read_models_and_writes_through_actions(root: Path) -> None:
    allowed = tuple(
        f"trading_pipelines.{part}" for part in ("store.read_models", "store.actions", "settings", "errors")
    )
    forbidden = ("psycopg", "sqlalchemy", "dagster", "ccxt")
    for file in python_files(root / "streamlit_app"):
        for name in imported(file):
            assert not name.startswith("trading_pipelines") or name.startswith(allowed), f"{file.name}: {name}"
            assert name.split(".")[0] not in forbidden, f"{file.name}: {name}"


def test_domain_has_no_clock_no_chance_and_no_files(root: Path) -> None:
    impure = {"now", "utcnow", "today", "monotonic", "perf_counter", "getenv"}
    for file in python_files(root / "trading_pipelines" / "domain"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute):
                assert called.attr not in impure, f"{file.name}:{called.lineno} calls {called.attr}"
            elif isinstance(called, ast.Name):
                assert called.id not in {"open", "print", "input"}, f"{file.name}:{called.lineno} calls {called.id}"


@pytest.mark.parametrize(
    "module", ["trading_pipelines.definitions", "trading_pipelines.cli.app", "trading_pipelines.settings"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ("lightgbm", "sklearn", "numba", "ccxt", "streamlit", "talib")
    code = f"import {module}, sys; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_needs_neither_database_nor_pandas() -> None:
    code = (
        "import sys\nfrom trading_pipelines.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n"
        "    print([m for m in ('pandas', 'psycopg', 'dagster', 'pydantic') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")
