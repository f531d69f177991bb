"""`trading db`: the database server and its schema."""

import os
import shutil
import subprocess
from typing import Annotated

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json
from trading_pipelines.errors import UserError

app = typer.Typer(no_args_is_help=True, help="The embedded database server and the schema.")


@app.command()
def start(as_json: Json = False) -> None:
    """Start the embedded server and let it run until `trading db stop`."""
    from trading_pipelines.services.database import prepare_database, start_pinned
    from trading_pipelines.store.connection import embedded_server

    settings = prepare()
    if settings.database_url is not None:
        raise UserError("TRADING_DATABASE_URL names a server of your own: start it yourself, or unset the variable")
    applied = prepare_database(settings, start_pinned(settings))
    status = embedded_server(settings).status()
    if as_json:
        print_json({"database": status, "applied": applied})
    else:
        typer.echo(f"running on 127.0.0.1:{status.port} (process {status.pid})")


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop the embedded server, unless somebody uses it."""
    from trading_pipelines.services.database import stop_pinned

    stop_pinned(prepare())
    if as_json:
        print_json({"database": {"running": False}})
    else:
        typer.echo("stopped")


@app.command()
def url(
    dagster: Annotated[bool, typer.Option("--dagster", help="That of Dagster's own database.")] = False,
    as_json: Json = False,
) -> None:
    """Print the database's address, password included."""
    from trading_pipelines.services.database import dagster_url
    from trading_pipelines.store.connection import resolve_url

    settings = prepare()
    address = dagster_url(settings) if dagster else resolve_url(settings)
    if as_json:
        print_json({"url": address})
    else:
        typer.echo(address)


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the schema up to date."""
    from trading_pipelines.services.database import prepare_database, running_database

    settings = prepare()
    with running_database(settings) as address:
        applied = prepare_database(settings, address)
    if as_json:
        print_json({"applied": applied})
    else:
        typer.echo("\n".join(applied) or "up to date")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database; what follows is passed on, for example -c 'select 1'."""
    from psycopg.conninfo import conninfo_to_dict

    from trading_pipelines.services.database import running_database
    from trading_pipelines.store.embedded import binaries

    settings = prepare()
    with running_database(settings) as address:
        program = shutil.which("psql", path=f"{binaries()}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is None:
            raise UserError("psql is not installed")
        # By environment, because arguments can be read by every user of the machine.
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        given = {names[k]: str(v) for k, v in conninfo_to_dict(address).items() if k in names and v is not None}
        code = subprocess.call([program, *context.args], env={**os.environ, **given})
    raise typer.Exit(code)
