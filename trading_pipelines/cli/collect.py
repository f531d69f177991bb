"""`trading collect` and `trading sources`: what is known besides prices, and how its sources are doing."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Json, moment, prepare
from trading_pipelines.cli.features import show_stale, trace_stale
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.adapters.alternative.factory import Sources
    from trading_pipelines.application.alternative.alternative_data import CollectionReport
    from trading_pipelines.settings import Settings


def collect(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Sources or datasets. [default: all]")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="How far back to ask, UTC. [default: from the last answer on]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask the sources of indices, texts, flows and odds, store what is new, and sum flows and odds."""
    from trading_pipelines.application.alternative.alternative_data import FIRST_LOOK, collect_newest
    from trading_pipelines.application.alternative.flows import update_flows
    from trading_pipelines.application.alternative.odds import update_odds
    from trading_pipelines.cli.progress import progress_display
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    _refuse_archive(settings)
    chosen = _chosen(settings, names or [])
    start, now = moment(since, "--since") if since else None, datetime.now(UTC)
    if start is not None and start >= now:
        raise UserError(f"--since: {start:%Y-%m-%d %H:%M} has not come yet")
    with ready_database(settings) as url, connect(url, application_name="collect") as connection:
        reports = list["CollectionReport"]()
        with progress_display() as display:
            for number, source in enumerate(chosen):
                display.update("sources", number / len(chosen), source.name)
                reports += collect_newest(connection, [source], now, since=start)
            display.update("sources", 1.0, f"{sum(report.new for report in reports):,} new")
        if any(report.new for report in reports):
            update_flows(connection, settings, start or now - FIRST_LOOK, now)
            update_odds(connection, settings, start or now - FIRST_LOOK, now)
        stale = trace_stale(connection, settings)
    if as_json:
        print_json({"sources": reports})
    else:
        columns = ("source", "state", "received", "new", "refused", "newest", "")
        rows = [(r.source, _words(r.status), r.received, r.new, r.refused, r.newest, r.detail) for r in reports]
        print_table("Collected", columns, rows)
        if stale:
            show_stale(stale)
    if any(report.status == "FAILING" for report in reports):
        raise typer.Exit(2)


def sources(as_json: Json = False) -> None:
    """Show each source of alternative data: when it answered last, and what it lacks."""
    from trading_pipelines.adapters.alternative.factory import open_sources
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models.sources import outside_sources

    settings = prepare()
    _refuse_archive(settings)
    with ready_database(settings) as url, connect(url, application_name="sources") as connection:
        rows: list[dict[Any, Any]] = outside_sources(connection).to_dict("records")
    known = {row["source"]: row for row in rows}
    found = [
        {"dataset": dataset, "source": source.name, **_state(known.get(source.name))}
        for dataset, built in open_sources(settings).items()
        for source in built
    ]
    if as_json:
        print_json({"sources": found})
    else:
        columns = ("dataset", "source", "state", "last answer", "newest item", "items", "refused", "")
        print_table("Sources", columns, [(*row.values(),) for row in found])


def _refuse_archive(settings: "Settings") -> None:
    """An archive ends in the past: what sources say now was not known then."""
    from trading_pipelines.settings import SourceName

    if settings.source is SourceName.ARCHIVE:
        raise UserError(
            "an archive has no sources besides its files: run `trading history load FOLDER` for recorded history"
        )


def _state(row: dict[Any, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"state": "never asked", "last_answer": None, "newest": None, "items": 0, "refused": 0, "detail": ""}
    times = {
        name: None if row[key] is None or row[key] != row[key] else row[key].to_pydatetime()
        for name, key in (("last_answer", "last_success_at"), ("newest", "newest_item_at"))
    }
    counts = {"items": int(row["items"]), "refused": int(row["quarantined"])}
    return {"state": _words(row["status"]), **times, **counts, "detail": row["detail"]}


def _words(status: str) -> str:
    return status.lower().replace("_", " ")


def _chosen(settings: "Settings", names: list[str]) -> "Sources":
    """The sources of that name or dataset, in the order of the datasets.

    Raises
    ------
    UserError
        No source or dataset has that name.
    """
    from trading_pipelines.adapters.alternative.factory import open_sources

    built = open_sources(settings)
    known = set(built) | {source.name for found in built.values() for source in found}
    for name in names:
        if name not in known:
            raise UserError(f"no source or dataset {name}; there are {', '.join(sorted(known))}")
    return tuple(
        source
        for dataset, found in built.items()
        for source in found
        if not names or dataset in names or source.name in names
    )
