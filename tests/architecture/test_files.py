"""What is true of every file: documented, free of secrets, machine paths and package indices."""

import ast
import re
from pathlib import Path

from trading_pipelines.settings import load_settings
from trading_pipelines.store.migrate import available

TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".lock", ".sql", ".example", ".txt", ".cfg", ""}


def text_files(files: list[Path]) -> list[Path]:
    return [file for file in files if file.suffix in TEXT]


def test_every_module_says_what_belongs_in_it(tracked_files: list[Path]) -> None:
    silent = [
        str(file)
        for file in tracked_files
        if file.suffix == ".py" and file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []


def is_described(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """By a docstring, or by the description that its decorator shows in Dagster."""
    decorators = [d for d in node.decorator_list if isinstance(d, ast.Call)]
    return bool(ast.get_docstring(node)) or any(k.arg == "description" for d in decorators for k in d.keywords)


def test_every_public_function_of_the_package_is_documented(root: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    silent = [
        f"{file.relative_to(root)}:{node.lineno} {node.name}"
        for file in sorted((root / "trading_pipelines").rglob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, kinds) and not node.name.startswith("_") and not is_described(node)
    ]
    assert silent == []


def test_every_migration_begins_with_its_purpose() -> None:
    assert all(migration.sql.startswith("-- ") for migration in available())


def test_no_file_names_a_package_index(tracked_files: list[Path]) -> None:
    options = "|".join(("index" + "-url", "extra" + "-index", "find" + "-links", "trusted" + "-host"))
    hosts = "|".join((r"pypi\.org" + "/simple", "python" + "hosted", r"://[^/\s]+/simple\b"))
    found = [str(f) for f in text_files(tracked_files) if re.search(f"{options}|{hosts}", f.read_text())]
    assert found == []


def test_no_file_names_a_folder_of_one_machine(tracked_files: list[Path]) -> None:
    homes = re.compile(
        r"(?<![\w.~$}/-])/(?:" + "|".join(("ro" + "ot", "ho" + "me", "Us" + "ers", "wo" + "rk")) + r")/\w"
    )
    found = [f"{f}: {m.group()}" for f in text_files(tracked_files) for m in homes.finditer(f.read_text())]
    assert found == []


def test_no_file_holds_a_key(tracked_files: list[Path]) -> None:
    keys = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{36}\b|\bxox[bp]-\d{8}")
    assert [str(f) for f in text_files(tracked_files) if keys.search(f.read_text())] == []


def test_settings_example_names_real_settings_with_their_defaults(root: Path) -> None:
    example = (root / ".env.example").read_text()
    variables = dict(re.findall(r"^#(TRADING_[A-Z0-9_]+)=(.*)$", example, re.MULTILINE))
    own = {"TRADING_ARCHIVE_DIR", "TRADING_DATABASE_URL", "TRADING_SYMBOLS", "TRADING_DATA_DIR"}
    assert own < variables.keys()
    defaults = load_settings().model_dump(mode="json")
    for variable, text in variables.items():
        value = defaults
        for part in variable.removeprefix("TRADING_").lower().split("__"):
            value = value[part]
        if variable not in own:
            assert str(value).lower() == text.lower(), variable


def test_settings_example_works_as_it_is(root: Path) -> None:
    assert load_settings(_env_file=root / ".env.example") == load_settings()
