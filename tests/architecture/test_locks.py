"""The lock files: complete, consistent with each other and with pyproject.toml."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def locked(file: Path) -> dict[str, set[str]]:
    """Pinned lines by package; one may be pinned twice for different interpreters."""
    pins: dict[str, set[str]] = {}
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            pins.setdefault(canonicalize_name(Requirement(line).name), set()).add(line)
    return pins


@pytest.fixture
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-sentiment.lock"])
def test_every_line_pins_one_version(root: Path, name: str) -> None:
    for lines in locked(root / name).values():
        for line in lines:
            requirement = Requirement(line)
            assert [s.operator for s in requirement.specifier] == ["=="], line
            assert requirement.url is None, line


def test_development_environment_contains_the_runtime_one(root: Path) -> None:
    runtime, development = locked(root / "requirements.lock"), locked(root / "requirements-dev.lock")
    assert {name: development.get(name) for name in runtime} == runtime


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (None, "requirements.lock"),
        ("dev", "requirements-dev.lock"),
        ("sentiment", "requirements-sentiment.lock"),
    ],
)
def test_what_the_project_asks_for_is_locked(root: Path, project: dict[str, Any], extra: str | None, name: str) -> None:
    wanted = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    pins = locked(root / name)
    for text in wanted:
        requirement = Requirement(text)
        for line in pins[canonicalize_name(requirement.name)]:
            (pin,) = Requirement(line).specifier
            assert requirement.specifier.contains(pin.version), f"{line} against {text}"


def test_dagster_packages_are_of_one_release(root: Path) -> None:
    """They move in lockstep: libraries are numbered 0.(minor + 16) beside a core of 1.minor."""
    pins = {
        name: next(iter(Requirement(next(iter(lines))).specifier)).version
        for name, lines in locked(root / "requirements-dev.lock").items()
        if name.startswith("dagster")
    }
    patch = pins["dagster"].split(".")[2]
    assert {name: version.split(".")[2] for name, version in pins.items()} == dict.fromkeys(pins, patch)
