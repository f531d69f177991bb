"""What commands share: settings with their options on top, logs, dates, symbols."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.failures import is_debugging
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.domain.signals.policy import Direction as TradedSides
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Exchange = Annotated[str | None, typer.Option(help="Exchange key, for example bybit. [default: TRADING_EXCHANGE]")]
Symbols = Annotated[
    str | None, typer.Option(help="Comma-separated, for example BTCUSDT,ETHUSDT. [default: TRADING_SYMBOLS, or all]")
]
Timeframe = Annotated[str | None, typer.Option(help="For example 15m. [default: from the settings]")]

Strategies = Annotated[
    list[str] | None,
    typer.Option("--strategy", help="Name, file.py:Class or module:Class; may be given again. [default: settings]"),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="A parameter as name=value, or strategy.name=value; may be given again."),
]
Direction = Annotated[str | None, typer.Option(help="LONG, SHORT or BOTH. [default: settings]")]

_TIMEFRAME_MISSING = "no timeframe {given}; use 1m, 5m, 15m, 1h, 4h or 1d"


def prepare(*, stderr_level: str = "ERROR", **overrides: Any) -> "Settings":
    """Load the settings, options on top of variables, and start logging to `<data_dir>/logs/cli.log`.

    Little of it reaches the terminal: a command says itself what matters, and progress bars stay whole.
    """
    from trading_pipelines.logging import configure_logging
    from trading_pipelines.settings import load_settings

    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    level = "DEBUG" if is_debugging() else settings.log_level
    try:
        configure_logging(
            level,
            as_json=settings.log_json,
            file=settings.data_dir / "logs" / "cli.log",
            stderr_level="DEBUG" if is_debugging() else stderr_level,
        )
    except OSError as error:
        raise UserError(f"TRADING_DATA_DIR: {settings.data_dir} cannot be used: {error.strerror}") from error
    return settings


def moment(text: str, option: str) -> datetime:
    """A date such as 2025-07-01 (midnight) or an ISO time; without a zone it is UTC.

    Raises
    ------
    UserError
        It is neither.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{option}: {text!r} is no date like 2025-07-01 and no time like 2025-07-01T12:00Z") from error
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def span(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The two ends, if the first lies before the second."""
    if start >= end:
        raise UserError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M}")
    return start, end


def split_symbols(text: str | None) -> tuple[str, ...]:
    """Symbols of a comma-separated list, none for None."""
    found = tuple(symbol.strip().upper() for symbol in (text or "").split(",") if symbol.strip())
    for symbol in found:
        if not re.fullmatch(r"[A-Z0-9]{2,30}", symbol):
            raise UserError(f"--symbols: {symbol!r} is no symbol like BTCUSDT")
    return found


def stored_symbols(connection: "Connection", exchange: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """`wanted`, or all that is stored of the exchange.

    Raises
    ------
    UserError
        A symbol is not stored, or nothing is.
    """
    from trading_pipelines.store.repositories import instruments

    known = sorted(instruments.by_symbol(connection, exchange))
    connection.commit()
    if not known:
        raise UserError(f"nothing is stored for {exchange}: run `trading ingest --exchange {exchange}` first")
    for symbol in wanted:
        if symbol not in known:
            raise UserError(
                f"{symbol} is not stored for {exchange} (stored: {', '.join(known[:20])}): run `trading ingest` first"
            )
    return tuple(wanted) or tuple(known)


def check_session_name(given: str) -> str:
    """The name, if a session may be called so.

    Raises
    ------
    UserError
        It has other characters than the names in the settings may have.
    """
    from pydantic import ValidationError

    from trading_pipelines.settings import SessionSettings

    try:
        return SessionSettings(name=given).name
    except ValidationError as error:
        raise UserError(
            f"{given!r} is no name of a session: use at most 40 lower-case letters, digits, - and _, for example "
            "swing-2"
        ) from error


def check_timeframe(given: str) -> str:
    """The timeframe, if there is one of that name."""
    from trading_pipelines.domain.market.timeframe import Timeframe as Known

    if given not in list(Known):
        raise UserError(f"--timeframe: {_TIMEFRAME_MISSING.format(given=repr(given))}")
    return given


def parse_params(strategies: Sequence[str], texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters by strategy from `name=value`; the value is JSON where it reads as such, otherwise text.

    Raises
    ------
    UserError
        Not of that form, a strategy that is not asked for, or no strategy named where there are several.
    """
    params: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        strategy, dot, name = place.strip().rpartition(".")
        if not equals or not name:
            raise UserError(f"--param {text!r}: write it as name=value, for example fast=10")
        if not dot and len(strategies) != 1:
            raise UserError(f"--param {text!r}: say which strategy's, for example {strategies[0]}.{name}={value}")
        owner = strategy if dot else strategies[0]
        if owner not in strategies:
            raise UserError(f"--param {text!r}: {owner} is not among the strategies {', '.join(strategies)}")
        params.setdefault(owner, {})[name] = _json_or_text(value)
    return params


def read_params(texts: Sequence[str]) -> dict[str, Any]:
    """Parameters of one strategy, each text being `name=value` or a JSON object of them.

    Raises
    ------
    UserError
        It is neither.
    """
    params: dict[str, Any] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                params |= json.loads(text)
            except json.JSONDecodeError as error:
                raise UserError(f"--params {text!r}: not a JSON object: {error}") from error
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--params {text!r}: write it as name=value, for example fast=10")
        params[name.strip()] = _json_or_text(value)
    return params


def check_direction(given: str) -> "TradedSides":
    """The sides to trade, if the name is known."""
    from trading_pipelines.domain.signals.policy import Direction as Known

    if given.upper() not in list(Known):
        raise UserError(f"--direction: no direction {given!r}; use LONG, SHORT or BOTH")
    return Known(given.upper())


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
