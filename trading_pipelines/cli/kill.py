"""`trading kill`: the kill switch."""

from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json

if TYPE_CHECKING:
    from trading_pipelines.application.trading.kill_switch import KillState, KillSwitch
    from trading_pipelines.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Stop all new orders, whatever else is down.")
Reason = Annotated[str, typer.Option(help="Kept with the switch, for whoever asks later.")]


@app.command("on")
def engage(
    reason: Reason = "engaged from the command line",
    flatten: Annotated[bool, typer.Option("--flatten", help="Close every open position as well.")] = False,
    as_json: Json = False,
) -> None:
    """Stop new orders and cancel waiting entries; works without the database."""
    _show(_switch(prepare()).engage(reason, flatten=flatten), as_json)


@app.command("off")
def release(reason: Reason = "released from the command line", as_json: Json = False) -> None:
    """Allow trading again."""
    from trading_pipelines.services.database import ready_database

    settings = prepare()
    with ready_database(settings):
        state = _switch(settings).release(reason)
    _show(state, as_json)


@app.command("status")
def state(as_json: Json = False) -> None:
    """Say whether it is engaged, and why."""
    from trading_pipelines.services.database import ready_database

    settings = prepare()
    with ready_database(settings):
        found = _switch(settings).state()
    _show(found, as_json)


@app.command("drill")
def drill(as_json: Json = False) -> None:
    """Try the switch out on a throw-away paper session and say how fast it was; exits with 1 when it failed."""
    from datetime import UTC, datetime

    from trading_pipelines.adapters.sources import open_source
    from trading_pipelines.application.trading.kill_drill import run_drill
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.repositories import instruments

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="kill drill") as connection:
        symbols = settings.symbols or tuple(sorted(instruments.by_symbol(connection, settings.exchange)))
        quotes = {ticker.symbol: ticker.price for ticker in open_source(settings).tickers(symbols)} if symbols else {}
        row = run_drill(connection, settings, _switch(settings), quotes, lambda: datetime.now(UTC))
    if as_json:
        print_json({"drill": row})
    else:
        typer.echo(f"{row.outcome}{': ' + row.reason if row.reason else ''}")
        for what, took in (("refused", row.refused_ms), ("cancelled", row.cancelled_ms), ("flat", row.flat_ms)):
            typer.echo(f"{what:<10} {'-' if took is None else f'{took:,.0f} ms'}")
    raise typer.Exit(0 if row.outcome == "PASSED" else 1)


def _switch(settings: "Settings") -> "KillSwitch":
    from trading_pipelines.application.trading.kill_switch import KillSwitch
    from trading_pipelines.store.connection import connect, resolve_url

    return KillSwitch(settings.data_dir, lambda: connect(resolve_url(settings), application_name="kill"))


def _show(state: "KillState", as_json: bool) -> None:
    if as_json:
        print_json({"kill_switch": state})
        return
    extra = ", closing all positions" if state.engaged and state.flatten else ""
    typer.echo(f"{'ENGAGED' if state.engaged else 'released'}: {state.reason}{extra}")
