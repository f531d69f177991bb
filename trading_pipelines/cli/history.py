"""`trading history`: recorded values of alternative data."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.features import show_stale, trace_stale
from trading_pipelines.cli.output import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Recorded values of alternative data.")


@app.callback()
def _history() -> None:
    """Recorded values of alternative data."""


@app.command("load")
def load(
    folder: Annotated[Path, typer.Argument(help="With sentiment_index/, onchain/, funding/, flow/, text/ or others.")],
    as_json: Json = False,
) -> None:
    """Store recorded values with the time from which anyone could know them; loading again adds nothing.

    Says which features and scores were computed without them, and how they are computed again.
    """
    from trading_pipelines.application.alternative.history import load_history
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="history") as connection:
        loaded = load_history(connection, folder, datetime.now(UTC), settings.alternative.texts)
        stale = trace_stale(connection, settings)
    if as_json:
        print_json({"files": loaded, "stale": stale})
        return
    columns = ("file", "values", "new", "refused", "from", "to", "series")
    print_table(
        "Recorded history",
        columns,
        [(f.file, f.found, f.new, f.refused, f.first, f.last, ", ".join(f.series)) for f in loaded],
    )
    show_stale(stale)
