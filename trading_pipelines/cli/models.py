"""`trading train`: model versions from stored candles."""

from datetime import UTC, datetime
from typing import Annotated

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


def train(
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Oldest bar that may be read. [default: TRADING_TRAINING__TRAIN_DAYS]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Nothing later is read. [default: now]")] = None,
    force: Annotated[bool, typer.Option(help="Promote even what is not better than the base rate.")] = False,
    as_json: Json = False,
) -> None:
    """Train one version per symbol, judge it out of sample, and put it into production if it has earned it."""
    from trading_pipelines.application.training import TrainingProgress, train_many
    from trading_pipelines.domain.modelling.spec import TrainingSpec
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    wanted = split_symbols(symbols) or settings.symbols
    as_of = moment(end, "--to") if end else datetime.now(UTC)
    spec = settings.training
    if start is not None:
        since, _ = span(moment(start, "--from"), as_of)
        days = (as_of - since).days - spec.folds * spec.test_days - 2
        if days < 7:
            raise UserError(
                f"--from leaves {days} days to train on, at least 7 are needed: start earlier or lower "
                "TRADING_TRAINING__FOLDS"
            )
        spec = TrainingSpec.model_validate({**spec.model_dump(), "train_days": days})
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="train") as connection,
    ):
        chosen = stored_symbols(connection, settings.exchange, wanted)

        def tell(progress: TrainingProgress) -> None:
            done = chosen.index(progress.symbol) + progress.done / (progress.total + 1)
            display.update("training", done / len(chosen), f"{progress.symbol} fold {progress.done}/{progress.total}")

        reports = train_many(connection, settings.exchange, chosen, frame, as_of, spec, force=force, on_progress=tell)
        display.update("training", 1.0)
    if as_json:
        print_json({"exchange": settings.exchange, "timeframe": frame, "as_of": as_of, "versions": reports})
        return
    rows = [(r.symbol, r.model_id, r.folds, percent(r.metrics.get("skill")), r.promoted, r.verdict) for r in reports]
    print_table("Model versions", ("symbol", "version", "folds", "skill", "in production", "verdict"), rows)
