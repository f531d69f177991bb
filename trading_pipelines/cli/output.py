"""Results on standard output: tables for people, one JSON object for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

_UNCUT = 1000


def print_json(content: Mapping[str, Any]) -> None:
    """Print one object; times are ISO in UTC, NaN and infinity are null."""
    typer.echo(json.dumps(_plain(content), indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, or that there is nothing."""
    console = _console()
    if not rows:
        console.print(f"{title}: none", highlight=False)
        return
    # Not the table's own title, which wraps at the width of the table.
    console.print(title, style="bold", highlight=False)
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) and not isinstance(row[number], bool) for row in rows)
        justify = "right" if numeric else "left"
        table.add_column(column, justify=justify, no_wrap=not number, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _console() -> Console:
    """As wide as the terminal; what goes into a file or another program is not cut at any width."""
    console = Console()
    return console if console.is_terminal else Console(width=_UNCUT)


def percent(value: float | None) -> str:
    """A fraction for people."""
    return "-" if value is None else f"{value:+.2%}"


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Enum():
            return value.value
        case str() | bool() | int() | None:
            return value
        case float():
            return value if value - value == 0 else None
        case datetime():
            return value.isoformat()
        case Decimal():
            return float(value)
        case UUID() | Path():
            return str(value)
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return str(value)
