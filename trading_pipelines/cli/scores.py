"""`trading score` and `trading calibrate`: the composite score, and what its factors are worth."""

from datetime import UTC, datetime, timedelta
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
    span,
    split_symbols,
    stored_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.application.analysis.calibration import CalibrationReport, Variant

_DAY = timedelta(days=1)


def score(
    symbol: Annotated[str | None, typer.Argument(help="Explain one; without it all symbols in order.")] = None,
    exchange: Exchange = None,
    timeframe: Timeframe = None,
    as_json: Json = False,
) -> None:
    """Show the newest composite scores, or what one of them is made of."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models import scores

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    with ready_database(settings) as url, connect(url, application_name="score") as connection:
        ranking = scores.newest_scores(connection, settings.exchange, frame)
        if symbol is None:
            _show_ranking(ranking, settings.exchange, frame, as_json=as_json)
            return
        (name,) = split_symbols(symbol) or ("",)
        stored_symbols(connection, settings.exchange, (name,))
        found = scores.explain_score(connection, settings.exchange, name, frame)
    if found is None:
        raise UserError(f"{name} has no {frame} score yet: `trading up` makes one at every close, a replay its own")
    if as_json:
        print_json({"exchange": settings.exchange, "timeframe": frame, **vars(found)})
        return
    for line in found.words:
        typer.echo(line)
    columns = ("factor", "value", "weight", "points", "age min")
    rows = [(f.factor, f.value, f.weight, f.contribution, f.age_minutes) for f in found.factors]
    print_table(f"{name} at {found.available_at:%Y-%m-%d %H:%M} UTC", columns, rows)
    columns = ("input", "factor", "as published", "mapped", "age min")
    print_table("Inputs", columns, [(i.name, i.factor, i.raw, i.mapped, i.age_minutes) for i in found.inputs])


def calibrate(
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[str | None, typer.Option("--from", help="First bar, UTC. [default: three years before]")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included. [default: last midnight]")] = None,
    train_days: Annotated[int, typer.Option(min=30, help="Window in which weights are chosen.")] = 365,
    test_days: Annotated[int, typer.Option(min=7, help="Window in which they are tried.")] = 90,
    step: Annotated[float, typer.Option(min=0.05, max=0.2, help="Step of the weights.")] = 0.1,
    consensus: Annotated[int, typer.Option(min=0, max=5, help="Factors that have to agree.")] = 3,
    as_json: Json = False,
) -> None:
    """Choose the factors' weights walk-forward, and compare several factors with charts alone out of sample."""
    from trading_pipelines.application.analysis.calibration import CalibrationRequest
    from trading_pipelines.application.analysis.calibration import calibrate as run
    from trading_pipelines.cli.progress import progress_display
    from trading_pipelines.domain.market.timeframe import Timeframe as Known
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = Known(check_timeframe(timeframe or settings.signal_timeframe))
    now = datetime.now(UTC)
    until = moment(end, "--to") if end else Known.D1.floor(now)
    since = moment(start, "--from") if start else until - 3 * 365 * _DAY
    span(since, until)
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="calibrate") as connection,
    ):
        chosen = stored_symbols(connection, settings.exchange, split_symbols(symbols))
        request = CalibrationRequest(
            settings.exchange,
            chosen,
            frame,
            since,
            until,
            train_days=train_days,
            test_days=test_days,
            step=step,
            min_consensus=consensus,
        )
        report = run(
            connection,
            request,
            settings.scoring,
            settings.training,
            now,
            on_progress=lambda stage, share: display.update(stage, share or 0.0, ""),
        )
    if as_json:
        print_json(vars(report))
    else:
        _show_calibration(report)


def _show_ranking(ranking: Any, exchange: str, frame: str, *, as_json: bool) -> None:
    rows = ranking.to_dict("records")
    if as_json:
        print_json({"exchange": exchange, "timeframe": frame, "scores": rows})
        return
    columns = ("symbol", "score", "confidence", "consensus", "known", "missing", "at")
    print_table(
        f"Composite scores of {exchange}, {frame}",
        columns,
        [(r["symbol"], *(r[c] for c in columns[1:-1]), r["available_at"]) for r in rows],
    )


def _show_calibration(report: "CalibrationReport") -> None:
    typer.echo(
        f"{report.moments:,} moments of {len(report.symbols)} symbols; out of sample from "
        f"{report.out_of_sample_from:%Y-%m-%d} to {report.end:%Y-%m-%d} in {len(report.folds)} windows"
    )
    known = ", ".join(f"{name} {share:.0%}" for name, share in report.factors.items())
    typer.echo(f"known: {known}")
    columns = ("scored by", "signals", "false", "false share", "net per signal", "net per day against charts")
    for title, variants in (
        ("With the configured marks", report.at_marks),
        ("As many signals as charts alone", report.at_equal_counts),
    ):
        print_table(title, columns, [_variant_row(variant) for variant in variants])
    columns = ("without", "known", "rank correlation", "adds net per day", "interval")
    rows = [
        (
            s.source,
            f"{s.known:.0%}",
            s.rank_correlation,
            percent(s.comparison.difference),
            f"{percent(s.comparison.low)} ... {percent(s.comparison.high)}",
        )
        for s in report.sources
    ]
    print_table("What each source adds", columns, rows)
    chosen = ", ".join(f"{name} {weight:.0%}" for name, weight in report.weights.items())
    typer.echo(f"weights of the last window: {chosen}")
    typer.echo(f"share of false signals, calibrated against charts alone: {percent(report.false_signals_change)}")


def _variant_row(variant: "Variant") -> tuple[object, ...]:
    net = variant.versus_charts.get("net_per_day")
    against = "-" if net is None else f"{percent(net.difference)} ({percent(net.low)} ... {percent(net.high)})"
    return (
        variant.name,
        variant.signals,
        variant.false_signals,
        percent(variant.false_share),
        percent(variant.mean_net),
        against,
    )
