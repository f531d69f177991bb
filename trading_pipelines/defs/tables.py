"""How a database table presents itself as an asset: key, columns, kinds, row counts.

Belongs here: what all stages share when they describe a table to Dagster. Does not belong here: what fills a
table (`assets.py` of its stage) and what is in it (the migrations, from which the column schema is read).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, LiteralString

import dagster as dg

from trading_pipelines.defs.scope import Window, run_window
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from trading_pipelines.application.comparison import Comparison

_CREATE = re.compile(r"^create table (\w+) \((.*?)\n?\);$", re.MULTILINE | re.DOTALL)
_ALTER = re.compile(r"^alter table (\w+)\s(.*?);$", re.MULTILINE | re.DOTALL)
_ADD_COLUMN = re.compile(r"^\s*add column (.+?),?$", re.MULTILINE)
_LIKE = re.compile(r"like (\w+) including all")
_COLUMN = re.compile(
    r"^\s*(?!primary |unique |foreign |check |constraint )"
    r"(?P<name>\w+)\s+(?P<type>(?:double precision|\w+)(?:\[\])?)(?P<rest>.*)$"
)
_USUAL = {
    "available_at": "when the row could be known, UTC",
    "client_order_id": "deterministic id under which the exchange knows the order",
    "close": "price in quote currency",
    "coin": "base currency such as BTC, or MARKET for all",
    "code_version": "version of the program that wrote the row",
    "closed_at": "UTC; null while open",
    "confidence": "how sure, as a fraction",
    "created_at": "when the row was made, UTC",
    "decided_at": "as-of time of the decision, UTC",
    "ends_at": "end, not included, UTC",
    "entry_margin": "bound at the entry, in quote currency",
    "entry_price": "in quote currency",
    "equity": "of the account, in quote currency",
    "exchange": "key such as bybit",
    "fee": "paid, in quote currency",
    "fees": "paid so far, in quote currency",
    "feature_set_id": "names and definition of the features, see table feature_sets",
    "high": "price in quote currency",
    "instrument_id": "symbol of an exchange, see table instruments",
    "kind": "what sort of row it is",
    "leverage": "notional over margin",
    "liquidation_price": "in quote currency",
    "low": "price in quote currency",
    "margin": "in quote currency",
    "mark_price": "in quote currency",
    "model_id": "model version, see table model_versions",
    "open": "price in quote currency",
    "opened_at": "UTC",
    "position_id": "see table positions",
    "price": "in quote currency",
    "quantity": "in base currency",
    "quantity_initial": "in base currency",
    "quantity_open": "what is still open, in base currency",
    "quantity_protected": "what a working stop covers, in base currency",
    "realised_pnl": "before fees and funding, in quote currency",
    "risk_reward": "weighted distance of the targets over that of the stop",
    "run_id": "Dagster run that wrote the row; null outside of one",
    "series": "name of the number, see domain/alternative/series.py",
    "session_id": "trading session, see table sessions",
    "side": "LONG or SHORT of a position, BUY or SELL of an order",
    "signal_id": "see table signals",
    "source": "who delivered the row",
    "slippage": "contained in the prices, in quote currency",
    "starts_at": "UTC",
    "status": "where the row stands in its life",
    "status_reason": "why it stands there",
    "stop_price": "in quote currency",
    "strategy": "name of the strategy",
    "symbols": "such as {BTCUSDT}",
    "symbol": "such as BTCUSDT",
    "text_id": "see table texts",
    "timeframe": "length of the bar, such as 15m",
    "tp1_price": "first target, in quote currency",
    "tp2_price": "second target, in quote currency",
    "tp3_price": "third target, in quote currency",
    "ts": "time that the row speaks of, UTC; of a bar its open",
    "unrealised_pnl": "at the mark price, in quote currency",
    "updated_at": "when the row last changed, UTC",
    "value": "in the unit of its series",
    "valid_until": "end of the validity, UTC",
    "volume": "in base currency",
}
"""What a column of this name means wherever the migrations say nothing else of it."""

_COMMENT = re.compile(r"^comment on column (\w+)\.(\w+) is\s+'((?:[^']|'')*)';", re.MULTILINE)


def table_spec(
    table: str,
    *,
    key: str | None = None,
    group: str,
    owner: str,
    description: str,
    kinds: Iterable[str] = (),
    deps: Iterable[dg.AssetKey | dg.AssetDep | str] = (),
    fresh_within: timedelta | None = None,
) -> dg.AssetSpec:
    """Describe a table as an asset whose key is the table's name, or `key` where several assets share the table.

    `fresh_within` is how long the table may stay without an update before Dagster shows it as stale.
    """
    return dg.AssetSpec(
        key=key or table,
        group_name=group,
        owners=[owner],
        description=description,
        kinds={"postgres", "table", *kinds},
        deps=list(deps),
        metadata={"dagster/table_name": f"public.{table}", "dagster/column_schema": column_schema(table)},
        freshness_policy=dg.FreshnessPolicy.time_window(fresh_within) if fresh_within else None,
    )


def column_schema(table: str) -> dg.TableSchema:
    """The columns of a table with their types and comments, as the migrations declare them.

    Read from the packaged SQL, not from a database: importing definitions opens no connection.
    """
    return dg.TableSchema(columns=_columns_by_table()[table])


def partition_rows(connection: "psycopg.Connection[Any]", table: str, window: Window, exchange: str) -> dict[str, Any]:
    """Count the rows of the run's days; with one day, under the name by which Dagster charts it."""
    from psycopg.sql import SQL, Identifier

    query = SQL(
        "select count(*) from {} t join instruments i using (instrument_id) "
        "where i.exchange = %s and t.ts >= %s and t.ts < %s"
    ).format(Identifier(table))
    count = connection.execute(query, (exchange, window.start, window.end)).fetchone()
    name = "dagster/partition_row_count" if window.days == 1 else "rows"
    return {name: count[0] if count else 0}


def table_rows(connection: "psycopg.Connection[Any]", table: str) -> dict[str, Any]:
    """Count all rows of a small table."""
    from psycopg.sql import SQL, Identifier

    count = connection.execute(SQL("select count(*) from {}").format(Identifier(table))).fetchone()
    return {"dagster/row_count": count[0] if count else 0}


def day_rows(connection: "psycopg.Connection[Any]", table: str, window: Window, exchange: str) -> "pd.DataFrame":
    """All rows of the run's days with the columns in which checks are written."""
    from trading_pipelines.store.connection import read_frame

    columns = ", ".join(f"t.{column.name}" for column in column_schema(table).columns)
    return read_frame(
        connection,
        f"select {columns} from {table} t join instruments i using (instrument_id) "
        "where i.exchange = %s and t.ts >= %s and t.ts < %s",
        (exchange, window.start, window.end),
    )


def broken_rows(
    connection: "psycopg.Connection[Any]",
    query: LiteralString,
    params: Mapping[str, Any],
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Pass when `query`, which selects the rows that break a rule, finds none."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, params).fetchall()
    return dg.AssetCheckResult(
        passed=not rows,
        severity=severity,
        metadata={
            "broken": len(rows),
            "examples": [" ".join(f"{k}={v}" for k, v in row.items()) for row in rows[:5]],
        },
    )


def rows_check(
    asset: dg.AssetKey | str,
    name: str,
    query: LiteralString,
    description: str,
    *,
    blocking: bool = False,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetChecksDefinition:
    """Make a check that passes when `query`, which selects the rows that break a rule, finds none.

    The query may use `exchange`, `start` and `end` of the run's days, and `now`.
    """

    @dg.asset_check(asset=asset, name=name, blocking=blocking, description=description)
    def check(
        context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
    ) -> dg.AssetCheckResult:
        now = clock.now()
        window = run_window(context, now)
        given = {"exchange": settings().exchange, "start": window.start, "end": window.end, "now": now}
        with database.connect() as connection:
            return broken_rows(connection, query, given, severity)

    return check


def compared(found: "Comparison") -> dg.AssetCheckResult:
    """Pass when everything that was computed again equals what is stored."""
    return dg.AssetCheckResult(
        passed=not found.differing,
        metadata={
            "compared": found.compared,
            "broken": len(found.differing),
            "examples": [str(difference) for difference in found.differing[:5]],
        },
    )


@cache
def _columns_by_table() -> Mapping[str, list[dg.TableColumn]]:
    scripts = sorted(files("trading_pipelines.store.migrations").iterdir(), key=lambda file: file.name)
    sql = "\n".join(file.read_text(encoding="utf-8") for file in scripts if file.name.endswith(".sql"))
    declared: dict[str, list[str]] = {}
    model: dict[str, str] = {}
    for table, body in _CREATE.findall(sql):
        like = _LIKE.match(body)
        model[table] = like[1] if like else table
        declared[table] = [*declared[like[1]]] if like else body.splitlines()
    for table, changes in _ALTER.findall(sql):
        declared[table] += _ADD_COLUMN.findall(changes)
    comments = {(table, column): text.replace("''", "'") for table, column, text in _COMMENT.findall(sql)}
    return {
        table: [
            _column(match, comments.get((table, match["name"]), comments.get((model[table], match["name"]))))
            for match in map(_COLUMN.match, lines)
            if match
        ]
        for table, lines in declared.items()
    }


def _column(declaration: re.Match[str], description: str | None) -> dg.TableColumn:
    required = "not null" in declaration["rest"] or "primary key" in declaration["rest"]
    return dg.TableColumn(
        name=declaration["name"],
        type=declaration["type"],
        description=description or _USUAL.get(declaration["name"]),
        constraints=dg.TableColumnConstraints(nullable=not required),
    )
