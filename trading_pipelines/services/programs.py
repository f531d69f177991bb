"""The programs that make up the platform: how each is started, and what counts as working.

Belongs here: command lines and readiness. Does not belong here: when they are started and what happens when they end
(`supervisor`, `processes`).
"""

import contextlib
import json
import shutil
import socket
import sys
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

import trading_pipelines
from trading_pipelines.adapters.streams import can_stream
from trading_pipelines.errors import UserError
from trading_pipelines.services.database import dagster_url, run_dir
from trading_pipelines.services.processes import Program
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import DatabaseUnreachableError, resolve_url

HOST = "127.0.0.1"
LOCATION = "trading_pipelines"


def project_root() -> Path:
    """Folder of the checkout; the dashboard and Dagster's configuration are not part of the installed package."""
    root = Path(trading_pipelines.__file__).parents[1]
    if not (root / "streamlit_app" / "streamlit_app.py").exists():
        raise UserError("`trading up` needs a checkout of the project: clone it and run `make run` there")
    return root


def platform_environment(settings: Settings) -> dict[str, str]:
    """Variables by which Dagster's own commands find this platform's instance."""
    return {
        "TRADING_DATA_DIR": str(settings.data_dir),
        "DAGSTER_HOME": str(_dagster_home(settings)),
        "DAGSTER_POSTGRES_URL": dagster_url(settings).replace("postgresql://", "postgresql+psycopg2://", 1),
    }


def prepare_dagster_home(settings: Settings) -> Path:
    """Put Dagster's configuration where its runs may write beside it; the folder."""
    home = _dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project_root() / "dagster_home" / "dagster.yaml", home / "dagster.yaml")
    return home


def check_port(port: int, variable: str) -> None:
    """Raise a `UserError` that names `variable` if somebody listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} is taken: set {variable} to a free one") from error


@dataclass(frozen=True)
class Programs:
    """The platform's programs for one start.

    Dagster's webserver and daemon share one code server, which saves the memory and the start of a second one; it is
    also what lets each of the three be restarted alone.
    """

    settings: Settings
    code_port: int

    @classmethod
    def prepare(cls, settings: Settings) -> "Programs":
        """Choose a port for the code server and tell Dagster of it."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            programs = cls(settings, int(probe.getsockname()[1]))
        server = {"host": HOST, "port": programs.code_port, "location_name": LOCATION}
        programs._workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
        return programs

    def addresses(self) -> dict[str, str]:
        """Where a person finds what."""
        ports = self.settings.ports
        return {"dashboard": f"http://{HOST}:{ports.streamlit}", "dagster": f"http://{HOST}:{ports.dagster}"}

    def dagster_storage(self) -> Program:
        """Ends runs that a crash has orphaned; at the first start it creates Dagster's tables before others race."""
        return Program("dagster-storage", _python("trading_pipelines.defs.operations.orphans"))

    def fill(self) -> Program:
        """The first fill; prints its progress as JSON lines."""
        return Program("fill", _python("trading_pipelines.services.fill"))

    def code_server(self) -> Program:
        """Serves the code location."""
        command = _python(
            "dagster", "api", "grpc", "--module-name", "trading_pipelines.definitions",
            "--host", HOST, "--port", str(self.code_port), "--location-name", LOCATION,
            "--log-level", "warning", "--log-format", "json",
        )  # fmt: skip
        return Program("code-server", command, lambda: _listens(self.code_port))

    def webserver(self) -> Program:
        """Dagster's pages."""
        port = self.settings.ports.dagster
        command = _python(
            "dagster_webserver", "--workspace", str(self._workspace), "--host", HOST, "--port", str(port),
            "--dagster-log-level", "warning", "--log-format", "json",
        )  # fmt: skip
        return Program("dagster-webserver", command, lambda: _answers(f"http://{HOST}:{port}/server_info"))

    def daemon(self) -> Program:
        """Dagster's schedules, sensors and run queue; ready when it has said so after its start."""
        question = "select max(timestamp) from daemon_heartbeats"
        url = dagster_url(self.settings)
        last_seen = _ask(url, question)
        command = _python(
            "dagster._daemon", "run", "--workspace", str(self._workspace), "--log-level", "info", "--log-format", "json"
        )
        return Program("dagster-daemon", command, lambda: _ask(url, question) != last_seen)

    def dashboard(self) -> Program:
        """The Streamlit application."""
        port = self.settings.ports.streamlit
        command = _python(
            "streamlit", "run", str(project_root() / "streamlit_app" / "streamlit_app.py"),
            "--server.address", HOST, "--server.port", str(port), "--server.headless", "true",
            "--browser.gatherUsageStats", "false",
        )  # fmt: skip
        return Program("streamlit", command, lambda: _answers(f"http://{HOST}:{port}/_stcore/health"))

    def trader(self, since: datetime) -> Program:
        """The fast service; ready when its heartbeat is newer than `since`."""
        return Program("trader", _python("trading_pipelines.services.trader"), lambda: self._beats("trader", since))

    def collector(self, since: datetime) -> Program | None:
        """Quotes and trades over sockets; None where they are not wanted or there are none."""
        if not self.settings.collector.enabled or not can_stream(self.settings):
            return None
        command = _python("trading_pipelines.services.collector")
        return Program("collector", command, lambda: self._beats("collector", since))

    def _beats(self, service: str, since: datetime) -> bool:
        with contextlib.suppress(DatabaseUnreachableError):
            seen = _ask(resolve_url(self.settings), f"select ts from heartbeats where service = '{service}'")
            return seen is not None and seen > since
        return False

    @property
    def _workspace(self) -> Path:
        return run_dir(self.settings) / "workspace.yaml"


def _dagster_home(settings: Settings) -> Path:
    return settings.data_dir / "dagster_home"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as response:
        return response.status == 200
    return False


def _ask(url: str, question: str) -> Any:
    """One value from a database, None while it cannot say."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(url, connect_timeout=3) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row[0] if row else None
    return None
