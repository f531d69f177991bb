"""The column schemas that assets show are those of the migrated database."""

import pytest

from trading_pipelines.definitions import defs
from trading_pipelines.defs.tables import column_schema
from trading_pipelines.store.connection import Connection

TABLES = sorted({s.metadata["dagster/table_name"].removeprefix("public.") for s in defs.resolve_all_asset_specs()})
SPELLINGS = {"timestamp with time zone": "timestamptz", "integer": "int"}


def catalogue(connection: Connection, table: str) -> list[tuple[str, str, bool, str | None]]:
    """Columns of a table as PostgreSQL itself tells them."""
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod), not attnotnull, col_description(attrelid, attnum) "
        "from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
        (table,),
    ).fetchall()
    return [(name, SPELLINGS.get(type_, type_), nullable, comment) for name, type_, nullable, comment in rows]


@pytest.mark.parametrize("table", [*TABLES, "kill_switch"])
def test_column_schema_equals_the_catalogue(connection: Connection, table: str) -> None:
    columns = column_schema(table).columns
    told = catalogue(connection, table)

    assert [(c.name, c.type, c.constraints.nullable) for c in columns] == [column[:3] for column in told]
    commented = [(c.name, c.description) for c, column in zip(columns, told, strict=True) if column[3] is not None]
    assert commented == [(name, comment) for name, _, _, comment in told if comment is not None]


def test_columns_that_every_table_has_are_explained_where_nothing_else_is_said() -> None:
    described = {column.name: column.description for column in column_schema("signals").columns}

    assert described["session_id"] == "trading session, see table sessions"
    assert described["valid_until"] == "end of the validity, UTC"


def test_every_asset_is_a_table_of_the_database(connection: Connection) -> None:
    present = {name for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'public'")}
    assert set(TABLES) <= present


def test_unknown_table_has_no_schema() -> None:
    with pytest.raises(KeyError):
        column_schema("nothing")
