"""`trading models`: the versions there are, and which of them predict."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Exchange, Json, Symbols, prepare, split_symbols
from trading_pipelines.cli.output import percent, print_json, print_table

if TYPE_CHECKING:
    from trading_pipelines.store.connection import Connection

app = typer.Typer(no_args_is_help=True, help="Model versions: candidate, production, archived.")
Version = Annotated[str, typer.Argument(help="Name of the version, from `trading models list`.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the change.")]


@app.command("list")
def list_versions(exchange: Exchange = None, symbols: Symbols = None, as_json: Json = False) -> None:
    """List the versions, those in production first."""
    from trading_pipelines.store.read_models import models

    settings = prepare(exchange=exchange)
    wanted = split_symbols(symbols)
    with _connected(settings) as connection:
        rows = [
            row
            for row in models.list_versions(connection, settings.exchange, 10_000).to_dict("records")
            if not wanted or row["symbol"] in wanted
        ]
    if as_json:
        print_json({"exchange": settings.exchange, "versions": rows})
        return
    columns = ("model_id", "symbol", "timeframe", "state", "pinned", "as_of", "folds", "auc", "skill")
    shown = [
        [
            percent(row[c]) if c == "skill" else round(row[c], 3) if c == "auc" and row[c] is not None else row[c]
            for c in columns
        ]
        for row in rows
    ]
    print_table("Model versions", columns, shown)


@app.command("show")
def show(model_id: Version, as_json: Json = False) -> None:
    """Show one version: what it was made from, how it did out of sample, and what became of it."""
    from trading_pipelines.errors import UserError
    from trading_pipelines.store.read_models import models

    with _connected(prepare()) as connection:
        found = models.describe(connection, model_id)
    if found is None:
        raise UserError(f"there is no model version {model_id}: `trading models list` names them")
    if as_json:
        print_json(found)
        return
    metrics = found.pop("metrics")
    folds, changes, drift = found.pop("folds"), found.pop("changes"), found.pop("drift")
    gain, shap = metrics.pop("importance", {}), metrics.pop("shap", {})
    parameters = metrics.pop("parameters", {})
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    print_table(model_id, ("what", "value"), [(k, v) for k, v in found.items() if k != "spec"])
    print_table("Out of sample", ("figure", "value"), [(k, _rounded(v)) for k, v in numbers.items()])
    print_table("Parameters", ("name", "value"), list(parameters.items()))
    print_table("Importance by gain", ("feature", "share"), _strongest(gain))
    print_table("Importance by mean contribution (SHAP)", ("feature", "share"), _strongest(shap))
    print_table(
        "Folds",
        ("fold", "tested from", "until", "AUC", "log loss", "calibration error", "net profit"),
        [
            [
                *(f[n] for n in ("fold", "test_from", "test_until")),
                *(_rounded(f["metrics"].get(n)) for n in ("auc", "log_loss", "calibration_error", "net_profit")),
            ]
            for f in folds
        ],
    )
    columns = ("at", "action", "requested_by", "reason")
    print_table("Changes", columns, [[c[k] for k in columns] for c in changes])
    if drift:
        print_table(
            "Drift",
            ("day", "shifted features", "hit rate", "verdict"),
            [
                (
                    d["day"],
                    f"{d['drifted_features']} of {d['features']}",
                    percent(d["hit_rate"]),
                    "; ".join(d["reasons"]),
                )
                for d in drift
            ],
        )


@app.command("promote")
def promote(model_id: Version, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Put a version into production from now on."""
    _change("promote", model_id, reason, as_json)


@app.command("rollback")
def rollback(model_id: Version, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Take a version out of production; the one before predicts from now on."""
    _change("rollback", model_id, reason, as_json)


@app.command("pin")
def pin(model_id: Version, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Keep the version in production: nothing takes its place until it is unpinned."""
    _change("pin", model_id, reason, as_json)


@app.command("unpin")
def unpin(model_id: Version, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Let other versions take its place again."""
    _change("unpin", model_id, reason, as_json)


def _change(wanted: str, model_id: str, reason: str, as_json: bool) -> None:
    from trading_pipelines.application import registry

    at = datetime.now(UTC)
    with _connected(prepare()) as connection:
        concerned = registry.change(connection, registry.Change(wanted), model_id, getpass.getuser(), reason, at)
    if as_json:
        print_json({"change": wanted, "model_id": model_id, "concerns": concerned, "effective_from": at})
    elif wanted in ("promote", "rollback"):
        typer.echo(f"{concerned} is in production from {at:%Y-%m-%d %H:%M:%S} UTC on")
    else:
        typer.echo(f"{concerned} is {wanted}ned")


@contextmanager
def _connected(settings: Any) -> "Iterator[Connection]":
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    with ready_database(settings) as url, connect(url, application_name="models") as connection:
        yield connection


def _strongest(shares: dict[str, float]) -> list[tuple[str, str]]:
    return [(name, percent(share)) for name, share in sorted(shares.items(), key=lambda item: -item[1])[:12]]


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
