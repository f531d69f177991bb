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
    features,
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

RUN, DATA, RESEARCH, TRADE, LOOK_INTO = "Run", "Data", "Research", "Trade", "Look into"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's own markup would swallow what stands in brackets, such as [default: now].
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From market data to executed trades. Settings are variables TRADING_..., see .env.example.",
)
app.command("up", rich_help_panel=RUN)(platform.up)
app.command("status", rich_help_panel=RUN)(status.status)
app.command("service", rich_help_panel=RUN)(platform.service)
app.command("stream", rich_help_panel=RUN)(platform.stream)
app.command("env", rich_help_panel=RUN)(platform.env)
app.command("settings", rich_help_panel=RUN)(platform.settings)
app.add_typer(database.app, name="db", rich_help_panel=RUN)
app.command("ingest", rich_help_panel=DATA)(market_data.ingest)
app.command("universe", rich_help_panel=DATA)(market_data.universe)
app.command("repair", rich_help_panel=DATA)(market_data.repair)
app.command("collect", rich_help_panel=DATA)(collect.collect)
app.command("sources", rich_help_panel=DATA)(collect.sources)
app.add_typer(sentiment.app, name="sentiment", rich_help_panel=DATA)
app.command("flows", rich_help_panel=DATA)(flows.flows)
app.command("odds", rich_help_panel=DATA)(flows.odds)
app.add_typer(history.app, name="history", rich_help_panel=DATA)
app.command("train", rich_help_panel=RESEARCH)(models.train)
app.add_typer(registry.app, name="models", rich_help_panel=RESEARCH)
app.add_typer(features.app, name="features", rich_help_panel=RESEARCH)
app.add_typer(backtest.app, name="backtest", rich_help_panel=RESEARCH)
app.command("replay", rich_help_panel=RESEARCH)(replay.replay)
app.command("score", rich_help_panel=RESEARCH)(scores.score)
app.command("calibrate", rich_help_panel=RESEARCH)(scores.calibrate)
app.add_typer(session.app, name="session", rich_help_panel=TRADE)
app.add_typer(trade.app, name="trade", rich_help_panel=TRADE)
app.add_typer(risk.app, name="risk", rich_help_panel=TRADE)
app.add_typer(kill.app, name="kill", rich_help_panel=TRADE)
app.command("explain", rich_help_panel=LOOK_INTO)(explain.explain)
app.command("parity", rich_help_panel=LOOK_INTO)(parity.parity)
app.command("leakcheck", rich_help_panel=LOOK_INTO)(leakcheck.leakcheck)


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
