"""`trading trade`: trades by hand, through the order path of every signal."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.domain.execution.session import TradingSession
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection
    from trading_pipelines.store.repositories.instructions import Instruction, InstructionKind

app = typer.Typer(no_args_is_help=True, help="Trades by hand: same risk rules, kill switch and order path as signals.")
Symbol = Annotated[str, typer.Argument(help="For example BTCUSDT.")]
Session = Annotated[str | None, typer.Option(help="Name of the session. [default: TRADING_SESSION__NAME]")]
Request = Annotated[
    str | None, typer.Option("--request-id", help="The same id sent again is carried out once. [default: a new one]")
]
Price = Annotated[float, typer.Option(min=0, help="Price in quote currency.")]
SERVICE = "trader"
ALIVE = timedelta(seconds=10)
"""A service that gave a sign of life so lately carries the instruction out."""
POLL_S = 0.2


@app.command("open")
def open_(
    symbol: Symbol,
    side: Annotated[str, typer.Option(help="long or short.")],
    stop: Annotated[float | None, typer.Option(min=0, help="Stop price. [default: 1 ATR away]")] = None,
    targets: Annotated[str | None, typer.Option(help="Three prices, comma-separated. [default: in ATR]")] = None,
    size: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the full risk per trade.")] = 1.0,
    session: Session = None,
    request_id: Request = None,
    as_json: Json = False,
) -> None:
    """Open a position at the market, with a stop and three targets; the risk rules decide the quantity."""
    arguments: dict[str, Any] = {"symbol": symbol.upper(), "side": side.upper(), "size": size}
    if stop is not None:
        arguments["stop"] = stop
    if targets is not None:
        arguments["targets"] = _prices(targets)
    _instruct("OPEN", arguments, session, request_id, as_json)


@app.command("close")
def close(
    symbol: Symbol,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Part of what is open.")] = 1.0,
    session: Session = None,
    request_id: Request = None,
    as_json: Json = False,
) -> None:
    """Close the open position of a symbol at the market, or a part of it."""
    _instruct("CLOSE", {"symbol": symbol.upper(), "share": share}, session, request_id, as_json)


@app.command("stop")
def stop(
    symbol: Symbol, price: Price, session: Session = None, request_id: Request = None, as_json: Json = False
) -> None:
    """Move the stop of the open position of a symbol."""
    _instruct("STOP", {"symbol": symbol.upper(), "price": price}, session, request_id, as_json)


@app.command("target")
def target(
    symbol: Symbol,
    price: Price,
    number: Annotated[int, typer.Option(min=1, max=3, help="Which of the three targets.")] = 3,
    session: Session = None,
    request_id: Request = None,
    as_json: Json = False,
) -> None:
    """Move a target of the open position of a symbol."""
    arguments = {"symbol": symbol.upper(), "price": price, "number": number}
    _instruct("TARGET", arguments, session, request_id, as_json)


def _instruct(
    kind: str, arguments: Mapping[str, Any], session_name: str | None, request_id: str | None, as_json: bool
) -> None:
    from trading_pipelines.application.signals.sessions import find_session
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect
    from trading_pipelines.store.repositories.instructions import InstructionKind

    settings = prepare()
    key = request_id or uuid4().hex
    with ready_database(settings) as url, connect(url, application_name="trade") as connection:
        session = find_session(connection, session_name or settings.session.name)
        done = _submit(connection, settings, session, InstructionKind(kind), arguments, key)
    if as_json:
        print_json({"request_id": key, "status": done.status, "outcome": done.outcome})
    else:
        waited = f"not carried out within {settings.trader.instruction_seconds:g} s and void now: see `trading status`"
        typer.echo(f"{done.status}: {done.outcome or waited} (request {key})")
    raise typer.Exit(0 if done.status == "DONE" else 1)


def _submit(
    connection: "Connection",
    settings: "Settings",
    session: "TradingSession",
    kind: "InstructionKind",
    arguments: Mapping[str, Any],
    key: str,
) -> "Instruction":
    """Write the instruction down and see it through."""
    from trading_pipelines.application.trading import instructions
    from trading_pipelines.store.repositories.instructions import InstructionKind

    if kind is not InstructionKind.OPEN:
        arguments = {**arguments, "position_id": str(_position(connection, session, str(arguments["symbol"]), key))}
    instruction_id = instructions.submit(
        connection,
        session.session_id,
        kind,
        arguments,
        key=key,
        by="command line",
        as_of=datetime.now(UTC),
        valid_seconds=settings.trader.instruction_seconds,
    )
    if not _is_served(connection):
        _carry_out_here(connection, settings, session)
    return _wait(connection, instruction_id, settings.trader.instruction_seconds)


def _position(connection: "Connection", session: "TradingSession", symbol: str, key: str) -> UUID:
    """The position that is meant: the open one, or that of the earlier request with the same id."""
    from trading_pipelines.store.repositories import instructions, positions

    earlier = instructions.find_by_key(connection, session.session_id, key)
    held = positions.open_positions(connection, session.session_id)
    connection.commit()
    if earlier is not None and "position_id" in earlier.arguments:
        return UUID(str(earlier.arguments["position_id"]))
    found = next((position.position_id for position in held if position.symbol == symbol), None)
    if found is None:
        raise UserError(f"session {session.name!r} has no open position of {symbol}")
    return found


def _is_served(connection: "Connection") -> bool:
    from trading_pipelines.store.repositories import heartbeats

    seen = heartbeats.last_beat(connection, SERVICE)
    connection.commit()
    return seen is not None and datetime.now(UTC) - seen < ALIVE


def _carry_out_here(connection: "Connection", settings: "Settings", session: "TradingSession") -> None:
    """Without a service: compare the account, then do what was asked; fills come once prices move on again.

    A market that the account's exchange has never seen begins with the current price. Of the others it is left to the
    service to go through the bars in between first, so that no stop is passed unseen.
    """
    from trading_pipelines.adapters.exchanges.paper import MarketEvent, PaperExchange
    from trading_pipelines.adapters.sources import open_source
    from trading_pipelines.application.trading import instructions
    from trading_pipelines.application.trading.kill_switch import KillSwitch
    from trading_pipelines.application.trading.manual import Desk
    from trading_pipelines.application.trading.reconciliation import reconcile
    from trading_pipelines.store.connection import connect, resolve_url
    from trading_pipelines.store.repositories import instruments

    stored = instruments.by_symbol(connection, session.exchange)
    connection.commit()
    tickers = open_source(settings).tickers([symbol for symbol in session.symbols if symbol in stored])
    newest = {stored[ticker.symbol].instrument_id: ticker for ticker in tickers}
    exchange = PaperExchange(connection, session.session_id, session.execution)
    unseen = newest.keys() - exchange.advanced_to().keys()
    exchange.advance([MarketEvent.tick(i, newest[i].ts, newest[i].price) for i in sorted(unseen)])
    quotes = {instrument_id: ticker.price for instrument_id, ticker in newest.items()}
    kill = KillSwitch(settings.data_dir, lambda: connect(resolve_url(settings), application_name="trade"))
    reconcile(connection, session, exchange, datetime.now(UTC), settings.trader)
    instructions.carry_out(connection, Desk(session, exchange, kill, quotes), datetime.now(UTC))


def _wait(connection: "Connection", instruction_id: UUID, seconds: float) -> "Instruction":
    from trading_pipelines.store.repositories import instructions
    from trading_pipelines.store.repositories.instructions import InstructionStatus

    limit = time.monotonic() + seconds
    while True:
        found = instructions.find(connection, instruction_id)
        connection.commit()
        assert found is not None  # submitted just now; instructions are never deleted while their session is there
        if found.status is not InstructionStatus.PENDING or time.monotonic() > limit:
            return found
        time.sleep(POLL_S)


def _prices(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--targets: {text!r} is no list of prices like 102,104,106") from error
