"""`trading models`: the versions there are, and which of them predict."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import (
    Exchange,
    Json,
    Symbols,
    Timeframe,
    check_timeframe,
    moment,
    prepare,
    split_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table

if TYPE_CHECKING:
    from trading_pipelines.domain.research.ablation import Comparison
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


@app.command("ablation")
def ablation(
    symbol: Annotated[str, typer.Argument(help="Whose models.")],
    exchange: Exchange = None,
    timeframe: Timeframe = None,
    end: Annotated[str | None, typer.Option("--to", help="Nothing later is read. [default: now]")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Out-of-sample folds. [default: settings]")] = None,
    as_json: Json = False,
) -> None:
    """Measure what each source of features adds out of sample, with an interval; stores nothing."""
    from trading_pipelines.application.models.ablation import measure_sources
    from trading_pipelines.cli.progress import progress_display

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    as_of = moment(end, "--to") if end else datetime.now(UTC)
    spec = settings.training.model_copy(update={"folds": folds or settings.training.folds})
    with progress_display() as display, _connected(settings) as connection:

        def tell(done: int, total: int) -> None:
            display.update(f"ablation {symbol}", done / total, f"{done} of {total} fits")

        report = measure_sources(connection, settings.exchange, symbol.upper(), frame, as_of, spec, tell)
    if as_json:
        print_json({"exchange": settings.exchange, "as_of": as_of, **asdict(report)})
        return
    print_table(
        f"{report.symbol}: what each source adds over {report.folds} folds, {report.rows} rows",
        ("source", "features", "log loss, nats", "interval", "AUC", "interval", "verdict"),
        [
            (
                found.source,
                len(found.features),
                f"{found.log_loss.comparison.difference:+.5f}",
                _interval(found.log_loss.comparison, 5),
                f"{found.auc.comparison.difference:+.4f}",
                _interval(found.auc.comparison, 4),
                _verdict(found.log_loss.comparison),
            )
            for found in report.sources
        ],
    )


def _interval(compared: "Comparison", digits: int) -> str:
    return f"{compared.low:+.{digits}f} to {compared.high:+.{digits}f}"


def _verdict(compared: "Comparison") -> str:
    if not compared.conclusive:
        return "not shown by these days"
    return "adds" if compared.difference > 0 else "harms"


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
    from trading_pipelines.application.models import registry

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
