"""docker-compose.yml and Dockerfile, as far as they can be checked without an engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ONE_SHOT = {"migrate", "fill"}
SERVICES = {"database", "migrate", "fill", "code", "webserver", "daemon", "streamlit", "trader", "collector"}


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    return (root / "Dockerfile").read_text()


def test_all_parts_of_the_platform_are_there(compose: dict[str, Any]) -> None:
    assert compose["services"].keys() == SERVICES


def test_ports_are_open_on_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_is_limited_in_memory_and_in_its_log(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["logging"]["options"]["max-size"], name


def test_what_runs_for_ever_is_checked_and_restarted(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name in ONE_SHOT:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name
            assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys(), name


def test_dependencies_wait_for_what_their_target_can_reach(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for target, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if target in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected, f"{name} -> {target}"


def test_secrets_come_from_outside(compose: dict[str, Any], dockerfile: str, root: Path) -> None:
    for name, service in compose["services"].items():
        for variable, value in service["environment"].items():
            named = "@" in str(value) or "PASSWORD" in variable  # an address with a user, or a password itself
            if re.search("PASSWORD|URL", variable) and named:
                assert "${POSTGRES_PASSWORD:?" in value, f"{name}: {variable}"
    assert not re.search(r"(?i)password|secret|token", dockerfile)
    assert (root / ".dockerignore").read_text().split("\n")[1] == "*"


def test_platform_runs_without_privileges(compose: dict[str, Any], dockerfile: str) -> None:
    assert re.search(r"^USER (?!root)\w+$", dockerfile, re.MULTILINE)
    for name in SERVICES - {"database"}:
        service = compose["services"][name]
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_images_are_pinned(compose: dict[str, Any], dockerfile: str) -> None:
    images = [*re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE), compose["services"]["database"]["image"]]
    assert all(re.search(r":[\d.]+", image) for image in images)


def test_image_is_built_from_files_that_reach_the_builder(dockerfile: str, root: Path) -> None:
    sent = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
        for source in sources.split()
    ]
    assert copied
    for source in copied:
        assert source in sent, source
        assert (root / source).exists(), source


def test_webserver_and_daemon_find_the_code_location(compose: dict[str, Any]) -> None:
    workspace = yaml.safe_load(compose["configs"]["workspace"]["content"])
    server = workspace["load_from"][0]["grpc_server"]
    assert server["host"] in compose["services"]
    assert f"--port={server['port']}" in compose["services"][server["host"]]["command"]
    for name in ("webserver", "daemon"):
        (mounted,) = compose["services"][name]["configs"]
        assert mounted["target"] in compose["services"][name]["command"]
