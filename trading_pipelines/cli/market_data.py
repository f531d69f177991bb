"""`trading ingest`, `trading universe` and `trading repair`: what a source has, and what of it is missing."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Exchange, Json, Symbols, moment, prepare, span, split_symbols
from trading_pipelines.cli.features import show_stale, trace_stale
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.cli.progress import progress_display
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from trading_pipelines.application.market_data.ingestion import IngestReport
    from trading_pipelines.domain.market.timeframe import Timeframe as Known


ALL = "all"


def ingest(
    source: Annotated[str | None, typer.Option(help="simulated, archive or ccxt. [default: TRADING_SOURCE]")] = None,
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Annotated[
        str | None, typer.Option(help="For example 15m, or all that the source has. [default: from the settings]")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First bar, UTC. [default: TRADING_FILL__HISTORY_DAYS before --to]")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included. [default: now]")] = None,
    refetch: Annotated[bool, typer.Option(help="Ask again for what is stored; corrections overwrite.")] = False,
    as_json: Json = False,
) -> None:
    """Store what the source has and the database lacks; an interrupted ingestion goes on where it stopped."""
    from trading_pipelines.adapters.sources import choose_instruments, choose_timeframe, open_source
    from trading_pipelines.application.market_data.ingestion import IngestProgress, ingest_everything
    from trading_pipelines.application.market_data.ingestion import ingest as run
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(source=source, exchange=exchange, symbols=symbols and ",".join(split_symbols(symbols)))
    market = open_source(settings)
    chosen = [instrument.symbol for instrument in choose_instruments(market, settings.symbols)]
    base = None if timeframe == ALL else choose_timeframe(market, chosen, timeframe or settings.base_timeframe)
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

        def tell(of: "Known", p: IngestProgress) -> None:
            display.update(f"{p.stage} {of}", p.fraction, f"{p.symbol} {p.rows:,} rows")

        if base is None:
            reports = ingest_everything(connection, market, chosen, since, until, refetch=refetch, on_progress=tell)
        else:
            report = run(
                connection, market, chosen, base, since, until, refetch=refetch, on_progress=partial(tell, base)
            )
            reports = {base: report}
        stale = trace_stale(connection, settings)
    if as_json:
        summaries = {of: _summary(report) for of, report in reports.items()}
        print_json({"timeframes": summaries} if base is None else summaries[base])
    else:
        _show(reports)
        if stale:
            show_stale(stale)
    errors = [line for report in reports.values() for line in report.errors]
    for line in errors:
        typer.echo(f"error: {line}", err=True)
    if errors:
        raise typer.Exit(2)


def universe(
    look: Annotated[bool, typer.Option(help="Ask the exchange first; without, show what is stored.")] = True,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the pairs that are no members, with the reasons.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which pairs of the exchange are worth a look, and what was listed or delisted."""
    from trading_pipelines.adapters.sources import open_source
    from trading_pipelines.application.market_data.universe import watch_universe
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models.universe import newest_listings, universe_now

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="universe") as connection:
        if look:
            watch_universe(connection, open_source(settings), settings.universe)
        pairs = universe_now(connection, settings.exchange)
        listings = newest_listings(connection, settings.exchange, 20)
    shown = pairs if everything else pairs[pairs["member"]]
    if as_json:
        print_json({"pairs": _records(shown), "listings": _records(listings)})
        return
    columns = ("symbol", "price", "quote_volume_24h", "spread", "funding_hours", "reasons", "since")
    print_table(f"Universe: {int(pairs['member'].sum())} of {len(pairs)} pairs", columns, _rows(shown, columns))
    columns = ("ts", "symbol", "kind", "listed_at", "first_price", "first_volume")
    print_table("Listed and delisted", columns, _rows(listings, columns))


def repair(as_json: Json = False) -> None:
    """Ask again for missing candles, gap by gap; TRADING_REPAIR__SECOND_SOURCE may name an exchange that stands in."""
    from trading_pipelines.adapters.sources import choose_timeframe, open_source
    from trading_pipelines.adapters.sources.factory import open_second_source
    from trading_pipelines.application.market_data.repair import repair_gaps
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    market, second = open_source(settings), open_second_source(settings)
    base = choose_timeframe(market, (), settings.base_timeframe)
    rules = settings.repair.model_copy(update={"pause_minutes": 0.0})
    with ready_database(settings) as url, connect(url, application_name="repair") as connection:
        report = repair_gaps(connection, market, base, rules, second)
    if as_json:
        print_json(vars(report))
    else:
        typer.echo(f"asked about {report.asked} gaps: {report.repaired} filled, {report.substituted} candles stand in")
        for line in report.refused:
            typer.echo(f"not taken: {line}")
    for line in report.errors:
        typer.echo(f"error: {line}", err=True)
    if report.errors:
        raise typer.Exit(2)


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows with None for what is missing."""
    rows: list[dict[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _rows(frame: "pd.DataFrame", columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in _records(frame)]


def _show(reports: "Mapping[Known, IngestReport]") -> None:
    for timeframe, report in reports.items():
        rows = [
            (s.symbol, s.candles.inserted, s.candles.updated, s.quarantined, s.funding.inserted, s.missing_bars)
            for s in report.symbols
        ]
        columns = ("symbol", "new", "corrected", "refused", "funding", "missing bars")
        print_table(f"Candles {timeframe}", columns, rows)
        derived = ", ".join(f"{longer} {count:,}" for longer, count in report.derived.items()) or "nothing"
        speed = f", {report.inserted / report.seconds:,.0f} candles/s" if report.inserted else ""
        typer.echo(f"derived: {derived}; {report.seconds:.1f} s{speed}")


def _summary(report: "IngestReport") -> dict[str, Any]:
    return {
        "symbols": report.symbols,
        "derived": report.derived,
        "inserted": report.inserted,
        "corrected": report.corrected,
        "quarantined": report.quarantined,
        "errors": report.errors,
        "seconds": round(report.seconds, 3),
    }
