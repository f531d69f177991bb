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

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from trading_pipelines.application.comparison import Comparison
    from trading_pipelines.defs.scope import Window

_CREATE = re.compile(r"^create table (\w+) \((.*?)\n?\);$", re.MULTILINE | re.DOTALL)
_ALTER = re.compile(r"^alter table (\w+)\s(.*?);$", re.MULTILINE | re.DOTALL)
_ADD_COLUMN = re.compile(r"^\s*add column (.+?),?$", re.MULTILINE)
_LIKE = re.compile(r"like (\w+) including all")
_COLUMN = re.compile(
    r"^\s*(?!primary |unique |foreign |check |constraint )"
    r"(?P<name>\w+)\s+(?P<type>(?:double precision|\w+)(?:\[\])?)(?P<rest>.*)$"
)
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


def partition_rows(
    connection: "psycopg.Connection[Any]", table: str, window: "Window", exchange: str
) -> dict[str, Any]:
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


def day_rows(connection: "psycopg.Connection[Any]", table: str, window: "Window", exchange: str) -> "pd.DataFrame":
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
        description=description,
        constraints=dg.TableColumnConstraints(nullable=not required),
    )
