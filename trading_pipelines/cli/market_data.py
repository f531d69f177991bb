"""`trading ingest`: candles and funding from a source into the database."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import Exchange, Json, Symbols, Timeframe, moment, prepare, span, split_symbols
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.cli.progress import progress_display
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.application.ingestion import IngestReport


def ingest(
    source: Annotated[str | None, typer.Option(help="simulated, archive or ccxt. [default: TRADING_SOURCE]")] = None,
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First bar, UTC. [default: TRADING_FILL__HISTORY_DAYS before --to]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included. [default: now]")] = None,
    refetch: Annotated[bool, typer.Option(help="Ask again for what is stored; corrections overwrite.")] = False,
    as_json: Json = False,
) -> None:
    """Store what the source has and the database lacks; an interrupted ingestion goes on where it stopped."""
    from trading_pipelines.adapters.sources import choose_instruments, choose_timeframe, open_source
    from trading_pipelines.application.ingestion import ingest as run
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(source=source, exchange=exchange, symbols=symbols and ",".join(split_symbols(symbols)))
    market = open_source(settings)
    chosen = [instrument.symbol for instrument in choose_instruments(market, settings.symbols)]
    base = choose_timeframe(market, chosen, timeframe or settings.base_timeframe)
    until = moment(end, "--to") if end else market.now()
    since = moment(start, "--from") if start else until - timedelta(days=settings.fill.history_days)
    if end is None and since >= until:
        raise UserError(
            f"{market.name} {market.exchange} has nothing after {until:%Y-%m-%d %H:%M}: choose an earlier --from"
        )
    span(since, until)
    with (
        progress_display() as display,
        ready_database(settings) as url,
        connect(url, application_name="ingest") as connection,
    ):
        report = run(
            connection,
            market,
            chosen,
            base,
            since,
            until,
            refetch=refetch,
            on_progress=lambda p: display.update(p.stage, p.fraction, f"{p.symbol} {p.rows:,} rows"),
        )
    _show(report, as_json)
    if report.errors:
        for line in report.errors:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2)


def _show(report: "IngestReport", as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "symbols": report.symbols,
                "derived": report.derived,
                "inserted": report.inserted,
                "corrected": report.corrected,
                "quarantined": report.quarantined,
                "errors": report.errors,
                "seconds": round(report.seconds, 3),
            }
        )
        return
    rows = [
        (s.symbol, s.candles.inserted, s.candles.updated, s.quarantined, s.funding.inserted, s.missing_bars)
        for s in report.symbols
    ]
    print_table("Candles", ("symbol", "new", "corrected", "refused", "funding", "missing bars"), rows)
    derived = ", ".join(f"{timeframe} {count:,}" for timeframe, count in report.derived.items()) or "nothing"
    speed = f", {report.inserted / report.seconds:,.0f} candles/s" if report.inserted else ""
    typer.echo(f"derived: {derived}; {report.seconds:.1f} s{speed}")
