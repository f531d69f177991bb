"""`trading replay`: the live loop over stored candles."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import (
    Direction,
    Exchange,
    Json,
    Params,
    Strategies,
    Symbols,
    Timeframe,
    check_direction,
    check_session_name,
    check_timeframe,
    moment,
    parse_params,
    prepare,
    span,
    split_symbols,
    stored_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table
from trading_pipelines.cli.progress import progress_display

if TYPE_CHECKING:
    from trading_pipelines.application.research.replay import ReplayReport


def replay(
    start: Annotated[str, typer.Option("--from", help="First bar, UTC.")],
    end: Annotated[str, typer.Option("--to", help="End, not included.")],
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    train_until: Annotated[
        str | None, typer.Option(help="Train on what lies before; without it the versions in production judge.")
    ] = None,
    strategies: Strategies = None,
    params: Params = None,
    direction: Direction = None,
    name: Annotated[str | None, typer.Option(help="Name of the session; one of the same name is replaced.")] = None,
    as_json: Json = False,
) -> None:
    """Move the clock over stored candles through the code that trades live; ends with figures and a fingerprint."""
    from trading_pipelines.application.research.replay import ReplayProgress
    from trading_pipelines.application.research.replay import replay as run
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    wanted = split_symbols(symbols) or settings.symbols
    since, until = span(moment(start, "--from"), moment(end, "--to"))
    names = tuple(strategies or settings.session.strategies)
    changes: dict[str, Any] = {"strategies": names}
    if strategies or params:
        changes["strategy_params"] = parse_params(names, params or ())
    if direction:
        changes["direction"] = check_direction(direction)
    trained = moment(train_until, "--train-until") if train_until else None
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="replay") as connection,
    ):

        def tell(progress: ReplayProgress) -> None:
            share = progress.done / progress.total if progress.total else None
            display.update(progress.stage, share, f"{progress.clock:%Y-%m-%d}")

        chosen = stored_symbols(connection, settings.exchange, wanted)
        report = run(
            connection,
            settings,
            settings.exchange,
            chosen,
            frame,
            since,
            until,
            train_until=trained,
            name=None if name is None else check_session_name(name),
            changes=changes,
            on_progress=tell,
        )
    _show(report, as_json)


def _show(report: "ReplayReport", as_json: bool) -> None:
    session, result = report.session, report.performance
    if as_json:
        print_json(
            {
                "session": {"id": session.session_id, "name": session.name, "exchange": session.exchange},
                "symbols": session.symbols,
                "timeframe": session.timeframe,
                "strategies": session.strategies,
                "direction": session.direction,
                "bars": report.bars,
                "signals": report.signals,
                "executed": report.executed,
                "rejections": report.reasons,
                "performance": result,
                "fingerprint": report.fingerprint,
            }
        )
        return
    print_table("Rejections", ("reason", "set-ups"), list(report.reasons.items()))
    figures = [
        ("bars", report.bars),
        ("signals", report.signals),
        ("executed", report.executed),
        ("closed positions", result.trades),
        ("start equity", result.start_equity),
        ("end equity", result.end_equity),
        ("return", percent(result.total_return)),
        ("max drawdown", percent(-result.max_drawdown)),
        ("Sharpe", result.sharpe),
        ("Sortino", result.sortino),
        ("Calmar", result.calmar),
        ("win rate", percent(result.win_rate).lstrip("+")),
        ("profit factor", result.profit_factor),
        ("average R", result.average_r),
        ("exposure", percent(result.exposure).lstrip("+")),
        ("fees", result.fees),
        ("funding", result.funding),
        ("slippage", result.slippage),
    ]
    print_table(f"Replay {session.name}", ("figure", "value"), figures)
    typer.echo(f"fingerprint {report.fingerprint}")
