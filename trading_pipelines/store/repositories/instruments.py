"""Instruments: which symbols of which exchange are stored, under which id, with which rounding rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from trading_pipelines.domain.market.instrument import Instrument, MarketKind

_COLUMNS = (
    "exchange, symbol, base, quote, kind, price_step, quantity_step, min_quantity, min_notional, "
    "funding_interval_minutes, max_leverage"
)
_UPSERT = f"""
insert into instruments as stored ({_COLUMNS}, followed)
values (%(exchange)s, %(symbol)s, %(base)s, %(quote)s, %(kind)s, %(price_step)s, %(quantity_step)s,
        %(min_quantity)s, %(min_notional)s, %(funding_interval_minutes)s, %(max_leverage)s, %(followed)s)
on conflict (exchange, symbol) do update set
    kind = excluded.kind, price_step = excluded.price_step, quantity_step = excluded.quantity_step,
    min_quantity = excluded.min_quantity, min_notional = excluded.min_notional,
    funding_interval_minutes = coalesce(excluded.funding_interval_minutes, stored.funding_interval_minutes),
    max_leverage = excluded.max_leverage,
    followed = stored.followed or excluded.followed, updated_at = now()
where (stored.kind, stored.price_step, stored.quantity_step, stored.min_quantity, stored.min_notional,
       stored.funding_interval_minutes, stored.max_leverage, stored.followed)
    is distinct from (excluded.kind, excluded.price_step, excluded.quantity_step, excluded.min_quantity,
                      excluded.min_notional,
                      coalesce(excluded.funding_interval_minutes, stored.funding_interval_minutes),
                      excluded.max_leverage, stored.followed or excluded.followed)
"""


@dataclass(frozen=True)
class StoredInstrument:
    """An instrument and the id under which candles, signals and orders refer to it."""

    instrument_id: int
    instrument: Instrument


def save(connection: psycopg.Connection[Any], instruments: Iterable[Instrument], *, followed: bool = True) -> None:
    """Store new instruments and what the venue has changed about known ones.

    `followed` are those whose candles are fetched and that may be traded; once followed, always followed.
    """
    rows = [
        {**vars(instrument), "followed": followed}
        for instrument in sorted(instruments, key=lambda i: (i.exchange, i.symbol))
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT, rows)


def observe_funding_interval(connection: psycopg.Connection[Any], instrument_id: int) -> None:
    """Take the shorter of the last two distances of settlements, where the venue does not state the interval itself.

    The last one follows a change to more settlements at once; of two, a settlement that never came does not count.
    """
    connection.execute(
        """
        update instruments set funding_interval_minutes = seen.minutes
        from (
            select min(extract(epoch from step) / 60)::int as minutes
            from (select ts - lag(ts) over (order by ts) as step from (
                select ts from funding_rates where instrument_id = %(id)s order by ts desc limit 3) newest) steps
        ) seen
        where instrument_id = %(id)s and seen.minutes > 0 and funding_interval_minutes is distinct from seen.minutes
        """,
        {"id": instrument_id},
    )


def by_symbol(
    connection: psycopg.Connection[Any], exchange: str, *, everything: bool = False
) -> dict[str, StoredInstrument]:
    """The followed instruments of an exchange, or `everything` that is on its list of markets, by symbol."""
    rows = connection.execute(
        f"select instrument_id, {_COLUMNS} from instruments where exchange = %s and (followed or %s) order by symbol",
        (exchange, everything),
    ).fetchall()
    return {row[2]: StoredInstrument(row[0], _instrument(row[1:])) for row in rows}


def _instrument(row: tuple[Any, ...]) -> Instrument:
    exchange, symbol, base, quote, kind, *rules = row
    return Instrument(exchange, symbol, base, quote, MarketKind(kind), *rules)
