"""Which pairs an exchange lists, which of them form the universe, and since when: each look leaves what it changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.domain.market.instrument import ListingStatus


@dataclass(frozen=True)
class Judged:
    """One pair at one look; without `reasons` against it, it is a member."""

    instrument_id: int
    reasons: tuple[str, ...]
    quote_volume_24h: float | None
    spread: float | None


@dataclass(frozen=True)
class Change:
    """A pair that appeared or left."""

    instrument_id: int
    kind: str
    """`LISTED`, `DELISTED` or `RELISTED`."""
    listed_at: datetime | None = None
    first_price: float | None = None
    first_volume: float | None = None


def lock(connection: psycopg.Connection[Any], exchange: str) -> None:
    """Keep other looks at the exchange waiting until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"universe {exchange}",))


def known_statuses(connection: psycopg.Connection[Any], exchange: str) -> dict[str, tuple[int, ListingStatus]]:
    """Id and stored status of the pairs that were judged before, by symbol."""
    rows = connection.execute(
        "select symbol, instrument_id, status from instruments "
        "where exchange = %s and instrument_id in (select instrument_id from universe)",
        (exchange,),
    ).fetchall()
    return {symbol: (instrument_id, ListingStatus(status)) for symbol, instrument_id, status in rows}


def set_statuses(connection: psycopg.Connection[Any], statuses: Mapping[int, str]) -> None:
    """Note which pairs trade, by instrument id."""
    connection.execute(
        "update instruments i set status = new.status, updated_at = now() "
        "from unnest(%s::int[], %s::text[]) as new (instrument_id, status) "
        "where i.instrument_id = new.instrument_id and i.status <> new.status",
        (list(statuses), list(statuses.values())),
    )


def add_changes(connection: psycopg.Connection[Any], seen_at: datetime, changes: Iterable[Change]) -> None:
    """Keep what appeared and left; a look that is repeated at the same time adds nothing."""
    rows = [(c.instrument_id, seen_at, c.kind, c.listed_at, c.first_price, c.first_volume) for c in changes]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into listings (instrument_id, ts, kind, listed_at, first_price, first_volume) "
            "values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
            rows,
        )


_CHANGED = """
select given.instrument_id
from unnest(%(ids)s::int[], %(reasons)s::text[]) as given (instrument_id, reasons)
left join universe u on u.instrument_id = given.instrument_id and u.valid_to is null
where array_to_string(u.reasons, ' ') is distinct from given.reasons
"""
_END = (
    "delete from universe where instrument_id = any(%(ids)s) and valid_to is null and valid_from >= %(at)s",
    "update universe set valid_to = %(at)s where instrument_id = any(%(ids)s) and valid_to is null",
)
_BEGIN = """
insert into universe (instrument_id, valid_from, member, reasons, quote_volume_24h, spread)
values (%s, %s, %s, %s, %s, %s)
"""


def judge(connection: psycopg.Connection[Any], at: datetime, judged: Sequence[Judged]) -> list[int]:
    """End what no longer holds at `at` and begin what holds now; ids of the pairs that are judged otherwise."""
    found = connection.execute(
        _CHANGED, {"ids": [j.instrument_id for j in judged], "reasons": [" ".join(j.reasons) for j in judged]}
    ).fetchall()
    changed = {instrument_id for (instrument_id,) in found}
    for statement in _END:
        connection.execute(statement, {"ids": list(changed), "at": at})
    with connection.cursor() as cursor:
        cursor.executemany(
            _BEGIN,
            [
                (j.instrument_id, at, not j.reasons, list(j.reasons), j.quote_volume_24h, j.spread)
                for j in judged
                if j.instrument_id in changed
            ],
        )
    return sorted(changed)


def members_at(connection: psycopg.Connection[Any], exchange: str, moment: datetime) -> list[str] | None:
    """Symbols of the universe as it was known at `moment`; None when nobody had looked by then."""
    rows = connection.execute(
        "select i.symbol, u.member from universe u join instruments i using (instrument_id) "
        "where i.exchange = %s and u.valid_from <= %s and (u.valid_to is null or u.valid_to > %s) order by 1",
        (exchange, moment, moment),
    ).fetchall()
    return [symbol for symbol, member in rows if member] if rows else None
