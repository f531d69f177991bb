"""`trading flows` and `trading odds`: what moves on chains, and what prediction markets expect."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from trading_pipelines.store.connection import Connection

Coin = Annotated[str | None, typer.Argument(help="For example BTC. [default: all]")]


def flows(
    coin: Coin = None,
    hours: Annotated[float, typer.Option(min=1, help="How far back.")] = 24.0,
    limit: Annotated[int, typer.Option(min=1, help="Transactions that are shown at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Show net flows, whale scores and the newest large transactions."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.settings import SourceName
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models import flows as read

    settings = prepare()
    simulated, wanted = settings.source is SourceName.SIMULATED, coin.upper() if coin else None
    with ready_database(settings) as url, connect(url, application_name="flows") as connection:
        now = _now(connection)
        since = now - timedelta(hours=hours)
        summary = read.coin_summary(connection, since, simulated=simulated)
        listed = read.list_transactions(connection, since, wanted, 0.0, limit, simulated=simulated)
    if wanted is not None:
        summary = summary[summary["coin"] == wanted]
    if summary.empty and listed.empty:
        raise UserError("no flows are stored: run `trading collect whale_transactions`, or `trading up`")
    coins = summary[["coin", "netflow_usd", "whale_score", "transactions", "inflow_usd", "outflow_usd", "largest_usd"]]
    transactions = listed[["ts", "coin", "direction", "amount_usd", "sender", "recipient"]]
    if as_json:
        print_json({"coins": _records(coins), "transactions": _records(transactions)})
        return
    columns = ("coin", "net to exchanges, USD", "whale score", "large", "to, USD", "from, USD", "largest, USD")
    print_table(f"Flows of the last {hours:g} h", columns, _rows(coins))
    print_table("Large transactions", ("UTC", "coin", "direction", "USD", "from", "to"), _rows(transactions))


def odds(
    coin: Coin = None,
    limit: Annotated[int, typer.Option(min=1, help="Markets that are shown at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what prediction markets expect: implied distributions and the markets that moved most."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.settings import SourceName
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.read_models import prediction_markets as read

    settings = prepare()
    simulated, wanted = settings.source is SourceName.SIMULATED, coin.upper() if coin else None
    with ready_database(settings) as url, connect(url, application_name="odds") as connection:
        now = _now(connection)
        ladders = read.newest_distributions(connection, wanted, now, simulated=simulated)
        markets = read.list_markets(connection, wanted, ("OPEN",), limit, simulated=simulated)
    if ladders.empty and markets.empty:
        raise UserError("no prediction markets are stored: run `trading collect prediction_odds`, or `trading up`")
    implied = ladders[["coin", "expires_at", "method", "spot", "q10", "median", "q90", "above_spot", "rungs"]]
    shown = markets[["question", "coin", "expires_at", "probability", "change_24h", "spread", "liquidity_usd"]]
    if as_json:
        print_json({"distributions": _records(implied), "markets": _records(shown)})
        return
    columns = ("coin", "expires", "from", "spot", "10 %", "median", "90 %", "above spot", "markets")
    print_table("Implied prices", columns, _rows(implied))
    columns = ("question", "coin", "expires", "probability", "24 h", "spread", "liquidity, USD")
    print_table("Markets", columns, _rows(shown))


def _now(connection: "Connection") -> "datetime":
    row = connection.execute("select now()").fetchone()
    assert row is not None
    return row[0]


def _records(frame: "pd.DataFrame") -> list[dict[str, object]]:
    names = list(frame.columns)
    return [dict(zip(names, row, strict=True)) for row in _rows(frame)]


def _rows(frame: "pd.DataFrame") -> list[tuple[object, ...]]:
    """Rows of plain values; what is missing is None."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [tuple(row) for row in plain.itertuples(index=False)]
