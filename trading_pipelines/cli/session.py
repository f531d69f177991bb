"""`trading session`: paper accounts side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import (
    Direction,
    Json,
    Params,
    Strategies,
    Symbols,
    check_direction,
    check_session_name,
    moment,
    parse_params,
    prepare,
    span,
    split_symbols,
)
from trading_pipelines.cli.output import percent, print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.domain.execution.session import TradingSession
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection
    from trading_pipelines.store.read_models.replay import SessionBar

app = typer.Typer(no_args_is_help=True, help="Paper accounts side by side, each with its own rules and results.")
Name = Annotated[str, typer.Argument(help="Name of the session.")]
Overrides = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another value than the settings have; may be repeated.")
]
_SHOWN = 10
_SPAN = timedelta(days=1)


@app.command("create")
def create(
    name: Name,
    strategies: Strategies = None,
    params: Params = None,
    symbols: Symbols = None,
    direction: Direction = None,
    capital: Annotated[float | None, typer.Option(min=1, help="Start balance in USDT.")] = None,
    profile: Annotated[str | None, typer.Option(help="Set of thresholds: standard or active.")] = None,
    limit: Overrides = None,
    policy: Overrides = None,
    start: Annotated[bool, typer.Option("--start", help="Start it at once; else it is paused.")] = False,
    as_json: Json = False,
) -> None:
    """Create a paper session. Its rules are those of the settings now, and stay."""
    from decimal import Decimal

    from trading_pipelines.application.signals.sessions import create_session

    chosen = check_session_name(name)
    settings = _with_rules(prepare(), profile, policy or (), limit or ())
    names = tuple(strategies or settings.session.strategies)
    changes: dict[str, Any] = {"strategies": names, "strategy_params": parse_params(names, params or ())}
    if symbols:
        changes["symbols"] = split_symbols(symbols)
    if direction:
        changes["direction"] = check_direction(direction)
    if capital is not None:
        changes["start_capital"] = Decimal(repr(capital))
    with _connected(settings) as connection:
        session = create_session(connection, settings, chosen, start_at=datetime.now(UTC) if start else None, **changes)
    if as_json:
        print_json({"session": _described(session)})
    else:
        typer.echo(f"{session.name}: {session.status}, {', '.join(session.strategies)} on {', '.join(session.symbols)}")


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List the sessions and what they have earned."""
    from trading_pipelines.store.read_models.sessions import compare_sessions

    with _connected(prepare()) as connection:
        found = compare_sessions(connection)
    if as_json:
        print_json({"sessions": found.astype(object).where(found.notna(), None).to_dict("records")})
        return
    columns = ("name", "mode", "status", "strategies", "direction", "equity", "result", "open", "closed")
    rows = [
        tuple(percent(row[column]) if column == "result" else row[column] for column in columns)
        for row in found.to_dict("records")
    ]
    print_table("Sessions", columns, rows)


@app.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """Show a session: rules, performance, open positions, newest signals."""
    from trading_pipelines.application.trading.performance import session_performance
    from trading_pipelines.store.read_models.positions import open_positions
    from trading_pipelines.store.read_models.signals import list_signals
    from trading_pipelines.store.read_models.watch import account_truth

    with _connected(prepare()) as connection:
        session = _find(connection, name)
        result = session_performance(connection, session.session_id)
        held = open_positions(connection, session.session_id)
        signals = list_signals(connection, session.session_id, limit=_SHOWN)
        truth = account_truth(connection, session.session_id)
    positions = [
        tuple(
            row[name] for name in ("symbol", "side", "quantity_open", "entry_price", "mark_price", "stop_price", "net")
        )
        for row in held.to_dict("records")
    ]
    newest = [
        tuple(row[name] for name in ("created_at", "symbol", "side", "status", "confidence"))
        for row in signals.to_dict("records")
    ]
    if as_json:
        print_json(
            {
                "session": _described(session),
                "trading": truth,
                "performance": result,
                "open_positions": held.astype(object).where(held.notna(), None).to_dict("records"),
                "signals": [
                    dict(zip(("at", "symbol", "side", "status", "confidence"), row, strict=True)) for row in newest
                ],
            }
        )
        return
    typer.echo(f"{session.name}: {session.status}, {', '.join(session.strategies)}, {session.direction}")
    if truth is not None and not truth.allowed:
        typer.echo(f"entries are held back: {truth.reason}")
    figures = [(name.replace("_", " "), value) for name, value in vars(result).items() if not isinstance(value, tuple)]
    print_table("Performance", ("figure", "value"), figures)
    print_table("Open positions", ("symbol", "side", "open", "entry", "mark", "stop", "net"), positions)
    print_table("Newest signals", ("made", "symbol", "side", "status", "confidence"), newest)


@app.command("bars")
def bars(
    name: Name,
    symbol: Annotated[str, typer.Argument(help="For example BTCUSDT.")],
    start: Annotated[
        str | None, typer.Option("--from", help="First bar, a date or time in UTC. [default: a day before the end]")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Bars open before this. [default: as far as the session is]")
    ] = None,
    only_events: Annotated[bool, typer.Option("--events", help="Leave out bars at which nothing happened.")] = False,
    as_json: Json = False,
) -> None:
    """Replay a session bar by bar: prices, indicators, decision, signal, orders, fills, position, equity."""
    from trading_pipelines.store.read_models.replay import session_bars

    with _connected(prepare()) as connection:
        session = _find(connection, name)
        (asked,) = split_symbols(symbol) or ("",)
        if asked not in session.symbols:
            raise UserError(f"session {name!r} does not trade {symbol} (it trades {', '.join(session.symbols)})")
        upto = moment(end, "--to") if end else _reached(connection, session)
        since = moment(start, "--from") if start else upto - _SPAN
        span(since, upto)
        found = session_bars(connection, session.session_id, session.exchange, asked, session.timeframe, since, upto)
    shown = [bar for bar in found if bar.is_eventful] if only_events else found
    if as_json:
        print_json({"session": name, "symbol": asked, "timeframe": session.timeframe, "bars": shown})
        return
    columns = (
        "bar",
        "close",
        "ema 20",
        "ema 80",
        "rsi",
        "decided",
        "happened",
        "held",
        "stop",
        "open result",
        "equity",
    )
    print_table(f"{name}: {asked} {session.timeframe}", columns, [_bar_row(bar) for bar in shown])


@app.command("start")
def start(name: Name, as_json: Json = False) -> None:
    """Let a session open positions."""
    from trading_pipelines.application.signals.sessions import start_session

    with _connected(prepare()) as connection:
        outcome = start_session(connection, _find(connection, name), datetime.now(UTC))
    _say(name, outcome, as_json)


@app.command("pause")
def pause(name: Name, as_json: Json = False) -> None:
    """Let a session open nothing more; what is open is still managed."""
    from trading_pipelines.application.signals.sessions import pause_session

    with _connected(prepare()) as connection:
        outcome = pause_session(connection, _find(connection, name))
    _say(name, outcome, as_json)


@app.command("stop")
def stop(
    name: Name,
    flatten: Annotated[bool, typer.Option("--flatten", help="Close what is open, without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Stop a session for good; its results stay. What is open has to be closed first: asks, unless told."""
    from trading_pipelines.application.signals.sessions import stop_session

    with _connected(prepare()) as connection:
        session = _find(connection, name)
        now = datetime.now(UTC)
        try:
            outcome = stop_session(connection, session, now, flatten=flatten)
        except UserError:
            if as_json or not typer.confirm(f"{name} has open positions or entries. Close them at the market?"):
                raise
            outcome = stop_session(connection, session, now, flatten=True)
    _say(name, outcome, as_json)


def _reached(connection: "Connection", session: "TradingSession") -> datetime:
    """The session's present: the clock of a replay, now for one on the wall clock."""
    from trading_pipelines.store.repositories import sessions

    return sessions.clock(connection, session.session_id) or datetime.now(UTC)


def _bar_row(bar: "SessionBar") -> tuple[object, ...]:
    position = bar.position
    return (
        bar.ts,
        bar.close,
        bar.indicators["ema_20"],
        bar.indicators["ema_80"],
        bar.indicators["rsi_14"],
        ", ".join(f"{row['strategy']} {row['side'] or ''} {row['reason']}" for row in bar.decisions),
        "; ".join(_happened(bar)),
        None if position is None else f"{position.side} {position.quantity:.6g} at {position.entry_price:.6g}",
        None if position is None else position.stop_price,
        None if position is None else position.unrealised,
        None if bar.equity is None else bar.equity["equity"],
    )


def _happened(bar: "SessionBar") -> Iterator[str]:
    """What happened at a bar in the order of a trade: orders, fills, then what was decided at the close."""
    for order in bar.orders:
        at = "" if order["trigger_price"] is None else f" at {order['trigger_price']:.6g}"
        yield f"order {order['leg']} {order['side']} {order['quantity']:.6g}{at}"
    for fill in bar.fills:
        yield f"{fill['kind']} {fill['side']} {fill['quantity']:.6g} at {fill['price']:.6g}"
    for signal in bar.signals:
        yield f"signal {signal['side']} {str(signal['signal_id'])[:8]}"
    for leaving in bar.exits:
        yield f"exit decided: {leaving['reason']}"


@contextmanager
def _connected(settings: "Settings") -> "Iterator[Connection]":
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    with ready_database(settings) as url, connect(url, application_name="session") as connection:
        yield connection


def _find(connection: "Connection", name: str) -> "TradingSession":
    from trading_pipelines.application.signals.sessions import find_session

    return find_session(connection, name)


def _with_rules(settings: "Settings", profile: str | None, policy: Sequence[str], limits: Sequence[str]) -> "Settings":
    """The settings with another profile, thresholds and limits."""
    from trading_pipelines.domain.signals.policy import Profile, SignalPolicy

    if profile is not None and profile not in list(Profile):
        raise UserError(f"--profile: {profile!r} is none of {', '.join(Profile)}")
    thresholds = settings.signals if profile is None else SignalPolicy.for_profile(Profile(profile))
    return settings.model_copy(
        update={
            "signals": _changed(thresholds, policy, "--policy"),
            "risk": _changed(settings.risk, limits, "--limit"),
        }
    )


def _changed(model: Any, overrides: Sequence[str], option: str) -> Any:
    from pydantic import ValidationError

    values = model.model_dump()
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or name not in values:
            raise UserError(f"{option} {text}: write NAME=VALUE with one of {', '.join(values)}")
        values[name] = None if value.lower() in ("none", "null", "") else value
    try:
        return type(model).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{option} {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _described(session: "TradingSession") -> dict[str, Any]:
    return {
        "id": session.session_id,
        "name": session.name,
        "mode": session.mode,
        "status": session.status,
        "exchange": session.exchange,
        "symbols": session.symbols,
        "timeframe": session.timeframe,
        "strategies": session.strategies,
        "direction": session.direction,
        "start_capital": session.start_capital,
        "policy": session.policy.model_dump(),
        "limits": session.limits.model_dump(),
    }


def _say(name: str, outcome: str, as_json: bool) -> None:
    if as_json:
        print_json({"session": name, "outcome": outcome})
    else:
        typer.echo(f"{name}: {outcome}")
