"""Database roles: each process connects as one that can do what it needs and nothing else.

The owner of the tables migrates and trades; `READER` reads; `REQUESTER` reads and writes down what a person asks for,
which only the fast service carries out. Their generated passwords are kept in
files that only the owner of the data folder can read (`connection.password_file`).
"""

import os
import secrets
from pathlib import Path
from typing import LiteralString

from psycopg import sql

from trading_pipelines.store.connection import READER, REQUESTER, connect

_LOCK = 0x726F6C6573  # any fixed number: two processes that alter a role at once would fail

_CREATE = "create role {role} login password {password}"
_ALTER = "alter role {role} login password {password}"
_READ = (
    "grant usage on schema public to {role}",
    "grant select on all tables in schema public to {role}",
    "alter default privileges in schema public grant select on tables to {role}",
    "alter role {role} set timezone = 'UTC'",
)
_REQUEST = (
    "grant insert on manual_instructions to {role}",
    "grant execute on function request_model_change to {role}",
    "alter role {role} set statement_timeout = '30s'",
)
_READ_ONLY = (
    "alter role {role} set default_transaction_read_only = on",
    "alter role {role} set statement_timeout = '30s'",
)


def ensure_reader(url: str, password_file: Path) -> None:
    """Let `READER` log in and read everything, now and after later migrations, and nothing else."""
    _ensure(url, READER, password_file, _READ + _READ_ONLY)


def ensure_requester(url: str, password_file: Path) -> None:
    """Let `REQUESTER` log in, read everything and add instructions; it can change nothing that is there."""
    _ensure(url, REQUESTER, password_file, _READ + _REQUEST)


def _ensure(url: str, role: str, password_file: Path, grants: tuple[LiteralString, ...]) -> None:
    password = _password(password_file)
    names = {"role": sql.Identifier(role), "password": sql.Literal(password)}
    with connect(url, application_name="roles") as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        exists = connection.execute("select from pg_roles where rolname = %s", (role,)).rowcount > 0
        for statement in (_ALTER if exists else _CREATE, *grants):
            connection.execute(sql.SQL(statement).format(**names))


def _password(file: Path) -> str:
    """The password in `file`, generated at the first call."""
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    return file.read_text().strip()
