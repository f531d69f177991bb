"""`trading leakcheck`: whether anything stored knew the future."""

from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import Exchange, Json, Symbols, Timeframe, check_timeframe, prepare, split_symbols
from trading_pipelines.cli.context import stored_symbols as stored
from trading_pipelines.cli.features import trace_stale
from trading_pipelines.cli.output import print_json, print_table

if TYPE_CHECKING:
    from trading_pipelines.application.audit.decision_path import AssetCheck


def leakcheck(
    asset: Annotated[
        list[str] | None,
        typer.Option(
            help="candles, sentiment, flows, odds, features, labels, splits, models, predictions, scores, decisions or "
            "strategies; repeatable."
        ),
    ] = None,
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    samples: Annotated[int, typer.Option(min=1, help="Stored rows that are computed again, of each asset.")] = 24,
    seed: Annotated[int, typer.Option(help="Which rows are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Compute stored rows again from what was known at their time. Exit code 1 when anything differs.

    What was predicted or decided before its inputs were corrected, or arrived, is no fault and is counted apart.
    """
    from trading_pipelines.application.audit.decision_path import check_assets
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    with ready_database(settings) as url, connect(url, application_name="leakcheck") as connection:
        chosen = stored(connection, settings.exchange, split_symbols(symbols))
        trace_stale(connection, settings)
        checks = check_assets(connection, settings, chosen, frame, samples, seed, asset or ())
    passed = not any(check.findings for check in checks)
    if as_json:
        print_json({"passed": passed, "exchange": settings.exchange, "timeframe": frame, "checks": checks})
    else:
        print_table(
            "Computed again from what was known",
            ("asset", "rows", "verdict"),
            [(check.asset, check.checked, _verdict(check)) for check in checks],
        )
        for check in checks:
            for f in check.findings:
                typer.echo(
                    f"{check.asset}: {f.column} of {f.symbol}, first at {f.first:%Y-%m-%d %H:%M} ({f.row}): stored "
                    f"{f.stored}, known was {f.recomputed}; {f.cause}"
                )
            for changed in sorted({str(f.superseded_by) for f in check.superseded}):
                typer.echo(f"{check.asset}: some were said before this changed, and stay as they were said: {changed}")
    if not passed:
        raise typer.Exit(1)


def _verdict(check: "AssetCheck") -> str:
    if check.findings:
        return f"{len(check.findings)} columns differ"
    if check.superseded:
        return "agrees, but for what was said before its inputs changed"
    return "agrees" if check.checked else "nothing stored yet"
