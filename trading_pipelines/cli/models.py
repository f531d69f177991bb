"""`trading train`: model versions from stored candles."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import (
    Exchange,
    Json,
    Symbols,
    Timeframe,
    check_timeframe,
    moment,
    prepare,
    span,
    split_symbols,
    stored_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table
from trading_pipelines.cli.progress import progress_display
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.domain.modelling.spec import TrainingSpec


def train(
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Oldest bar that may be read. [default: TRADING_TRAINING__TRAIN_DAYS]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Nothing later is read. [default: now]")] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Out-of-sample folds. [default: settings]")] = None,
    search: Annotated[
        bool | None,
        typer.Option("--search/--no-search", help="Search booster parameters with Optuna. [default: settings]"),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=2, help="Trials of one search. [default: settings]")] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Search at every so many folds. [default: settings]")] = None,
    anchored: Annotated[bool, typer.Option("--anchored", help="Windows that grow instead of rolling on.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes on this machine. [default: settings]")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with trainings that were interrupted, or share those under way elsewhere."
        ),
    ] = False,
    force: Annotated[bool, typer.Option(help="Promote even what is not better than a naive forecast.")] = False,
    as_json: Json = False,
) -> None:
    """Train one version per symbol, judge it out of sample, and put it into production if it has earned it."""
    from trading_pipelines.application.models import training
    from trading_pipelines.application.models.tasks import TrainingProgress
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    wanted = split_symbols(symbols) or settings.symbols
    as_of = moment(end, "--to") if end else datetime.now(UTC)
    if resume and (start, end, timeframe, folds, search, trials, every) != (None,) * 7:
        raise UserError("--resume goes on with what was begun: of the options only --symbols, --processes and --force")
    spec = _spec(settings.training, folds, search, trials, every, anchored, processes)
    if start is not None:
        spec = _since(spec, moment(start, "--from"), as_of)
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="train") as connection,
    ):
        began: dict[str, float] = {}

        def tell(progress: TrainingProgress) -> None:
            now = time.monotonic()
            elapsed = now - began.setdefault(progress.symbol, now)
            # A search takes as long as many folds: the share of the time is told, not that of the tasks.
            share = elapsed / (elapsed + progress.eta_s) if progress.eta_s and elapsed else 0.0
            detail = f"{progress.done} of {progress.total} searches and folds"
            display.update(f"training {progress.symbol}", min(share, 0.99), detail)

        if resume:
            reports = training.resume(
                connection, settings.exchange, wanted, processes=processes, force=force, on_progress=tell
            )
        else:
            chosen = stored_symbols(connection, settings.exchange, wanted)
            reports = training.train_many(
                connection, settings.exchange, chosen, frame, as_of, spec, force=force, on_progress=tell
            )
        for report in reports:
            display.update(f"training {report.symbol}", 1.0, report.model_id)
    if as_json:
        print_json({"exchange": settings.exchange, "timeframe": frame, "as_of": as_of, "versions": reports})
        return
    rows = [
        (
            r.symbol,
            r.model_id,
            r.folds,
            _rounded(r.metrics.get("auc")),
            percent(r.metrics.get("skill")),
            percent(r.metrics.get("net_profit")),
            r.promoted,
            r.verdict,
        )
        for r in reports
    ]
    columns = ("symbol", "version", "folds", "AUC", "skill", "net profit", "in production", "verdict")
    print_table("Model versions", columns, rows)


def _spec(
    given: "TrainingSpec",
    folds: int | None,
    search: bool | None,
    trials: int | None,
    every: int | None,
    anchored: bool,
    processes: int | None,
) -> "TrainingSpec":
    """The settings' spec with the options on top; asking for trials is asking for a search."""
    looking = given.search.model_copy(
        update={
            "enabled": search if search is not None else given.search.enabled or trials is not None,
            "trials": trials or given.search.trials,
            "every": every or given.search.every,
        }
    )
    return given.model_copy(
        update={
            "folds": folds or given.folds,
            "anchored": anchored or given.anchored,
            "processes": processes or given.processes,
            "search": looking,
        }
    )


def _since(spec: "TrainingSpec", start: datetime, as_of: datetime) -> "TrainingSpec":
    """The spec with training windows as long as the candles from `start` on allow."""
    since, _ = span(start, as_of)
    days = (as_of - since).days - spec.folds * spec.test_days - 2
    if days < 7:
        raise UserError(
            f"--from leaves {days} days to train on, at least 7 are needed: start earlier or lower "
            "TRADING_TRAINING__FOLDS"
        )
    return spec.model_copy(update={"train_days": days})


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
