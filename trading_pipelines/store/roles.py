"""Database roles: the dashboard reads through one that can do nothing else."""

import os
import secrets
from pathlib import Path

import psycopg
from psycopg import sql

READER = "trading_reader"


def ensure_reader(url: str, password_file: Path) -> None:
    """Create the read-only role if it is missing and let it read everything, now and after later migrations.

    The generated password is kept in `password_file`, readable by its owner only.
    """
    password = _password(password_file)
    with psycopg.connect(url, autocommit=True) as connection:
        exists = connection.execute("select 1 from pg_roles where rolname = %s", (READER,)).fetchone()
        statement = "alter role {} login password {}" if exists else "create role {} login password {}"
        connection.execute(sql.SQL(statement).format(sql.Identifier(READER), sql.Literal(password)))
        for grant in (
            "alter role {} set default_transaction_read_only = on",
            "alter role {} set timezone = 'UTC'",
            "alter role {} set statement_timeout = '30s'",
            "grant usage on schema public to {}",
            "grant select on all tables in schema public to {}",
            "alter default privileges in schema public grant select on tables to {}",
        ):
            connection.execute(sql.SQL(grant).format(sql.Identifier(READER)))


def _password(password_file: Path) -> str:
    if not password_file.exists():
        with open(os.open(password_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    return password_file.read_text().strip()
