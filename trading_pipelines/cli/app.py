"""Which commands there are.

Belongs here: assembling the groups of commands. Does not belong here: imports of what they do; `trading --help` answers
at once because each command loads what it needs when it runs.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from trading_pipelines.cli import (
    backtest,
    collect,
    database,
    explain,
    flows,
    history,
    kill,
    leakcheck,
    market_data,
    models,
    parity,
    platform,
    registry,
    replay,
    risk,
    scores,
    sentiment,
    session,
    status,
    trade,
)
from trading_pipelines.cli.failures import show_tracebacks

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From market data to executed trades. Settings are variables TRADING_..., see .env.example.",
)
app.command("up")(platform.up)
app.command("status")(status.status)
app.command("ingest")(market_data.ingest)
app.command("universe")(market_data.universe)
app.command("repair")(market_data.repair)
app.command("collect")(collect.collect)
app.command("sources")(collect.sources)
app.command("train")(models.train)
app.add_typer(registry.app, name="models")
app.command("leakcheck")(leakcheck.leakcheck)
app.command("replay")(replay.replay)
app.add_typer(backtest.app, name="backtest")
app.add_typer(sentiment.app, name="sentiment")
app.command("explain")(explain.explain)
app.command("parity")(parity.parity)
app.command("score")(scores.score)
app.command("calibrate")(scores.calibrate)
app.add_typer(history.app, name="history")
app.command("flows")(flows.flows)
app.command("odds")(flows.odds)
app.add_typer(kill.app, name="kill")
app.add_typer(session.app, name="session")
app.add_typer(risk.app, name="risk")
app.add_typer(trade.app, name="trade")
app.add_typer(database.app, name="db")
app.command("service")(platform.service)
app.command("stream")(platform.stream)
app.command("env")(platform.env)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("trading-pipelines"))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    show_tracebacks(debug)
