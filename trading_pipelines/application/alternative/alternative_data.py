"""Indices, texts, flows and odds from their sources into the database.

Belongs here: one collection of one source, in one transaction, and what of it is kept when it fails. Does not belong
here: what a source answers (`adapters.alternative`) and what is made of it (`application.alternative.sentiment` and
others).

A source that fails, or lacks its key, is noted as such and stops nothing else. What its adapter or the database refuses
is kept with the reason, and so is a whole answer that says nothing; what is known already is not stored again, so any
collection may be repeated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog

from trading_pipelines.adapters.alternative.base import AlternativeSource, Delivery, NotConfiguredError, Refused
from trading_pipelines.adapters.http import UnusableAnswerError, shown
from trading_pipelines.domain.alternative.series import Observation
from trading_pipelines.domain.alternative.texts import TextItem
from trading_pipelines.domain.onchain.transactions import ExchangeFlow, WhaleTransaction
from trading_pipelines.domain.prediction_markets.markets import MarketOdds, PredictionMarket
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import flows, observations, odds, source_states, texts

Connection = psycopg.Connection[Any]
Writer = Callable[[Connection, Sequence[Any]], int]
WRITERS: Mapping[type, Writer] = {
    Observation: observations.add,
    TextItem: texts.add,
    WhaleTransaction: flows.add_transactions,
    ExchangeFlow: flows.add_flows,
    PredictionMarket: odds.save_markets,
    MarketOdds: odds.add_odds,
}
"""What stores items of a type; each returns how many were new."""
TEXTS = ("news", "posts")
"""Datasets that are texts."""
FIRST_LOOK = timedelta(days=2)
"""How far back a source is asked that has never answered."""
OVERLAP = timedelta(hours=6)
"""How far a collection reaches behind the last one, for what appeared late."""
_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer raises that has another shape than is documented."""
_UNSTORABLE = (psycopg.DataError, psycopg.IntegrityError, UnicodeError)
"""What the database makes of an item that it cannot hold, or that breaks a rule of its table."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CollectionReport:
    """What came of one collection.

    Attributes
    ----------
    status : str
        OK, FAILING or NOT_CONFIGURED; `detail` says what to do where it is not OK.
    new, refused : int
        Items that were not known before; so many were quarantined for the first time.
    newest : datetime or None
        Time that the newest item speaks of.
    """

    source: str
    status: str
    detail: str = ""
    received: int = 0
    new: int = 0
    refused: int = 0
    newest: datetime | None = None


def collect(
    connection: Connection,
    source: AlternativeSource[Any],
    since: datetime,
    until: datetime,
    *,
    now: datetime | None = None,
) -> CollectionReport:
    """Store what `source` has about (since, until], with its state as of `now` (by default `until`), and commit.

    Never raises for what the source does; the report and the stored state tell of it.
    """
    at = now or until
    try:
        report = _store(connection, source.name, _fetch(source, since, until), at)
    except NotConfiguredError as error:
        source_states.record_not_configured(connection, source.name, at, str(error))
        report = CollectionReport(source.name, "NOT_CONFIGURED", str(error))
    except UserError as error:
        connection.rollback()
        log.warning("source did not deliver", source=source.name, error=str(error))
        refused = _keep_answer(connection, source.name, at, error)
        source_states.record_failure(connection, source.name, at, str(error), refused)
        report = CollectionReport(source.name, "FAILING", str(error), refused=refused)
    connection.commit()
    return report


def collect_newest(
    connection: Connection, sources: Iterable[AlternativeSource[Any]], now: datetime, *, since: datetime | None = None
) -> list[CollectionReport]:
    """Ask each source for what it has had to say since it answered last, or since `since`."""
    reports: list[CollectionReport] = []
    for source in sources:
        last = source_states.last_success(connection, source.name)
        start = since or (now - FIRST_LOOK if last is None else min(last, now) - OVERLAP)
        reports.append(collect(connection, source, start, now))
    return reports


def _fetch(source: AlternativeSource[Any], since: datetime, until: datetime) -> Delivery[Any]:
    try:
        return source.fetch(since, until)
    except UserError:
        raise
    except _UNREADABLE as error:
        raise UnusableAnswerError(
            f"{source.name} answers in another shape than it documents: {type(error).__name__} {str(error)[:100]}"
        ) from error


def _store(connection: Connection, source: str, delivery: Delivery[Any], at: datetime) -> CollectionReport:
    by_type: dict[type, list[Any]] = {}
    for item in delivery.items:
        by_type.setdefault(type(item), []).append(item)
    new, refused = 0, list(delivery.refused)
    for kind, items in by_type.items():
        written, unstorable = _write(connection, WRITERS[kind], items)
        new, refused = new + written, refused + unstorable
    quarantined = source_states.quarantine(connection, source, at, _columns(refused))
    newest = max((_moment(item) for item in delivery.items), default=None)
    source_states.record_success(connection, source, at, newest, new, quarantined)
    return CollectionReport(source, "OK", "", len(delivery.items), new, quarantined, newest)


def _write(connection: Connection, writer: Writer, items: Sequence[Any]) -> tuple[int, list[Refused]]:
    """Store items, and find those that the database does not take by halving; how many were new, and the others."""
    try:
        with connection.transaction():
            return writer(connection, items), []
    except _UNSTORABLE as error:
        if len(items) == 1:
            reason = f"cannot be stored: {str(error).splitlines()[0][:160]}"
            return 0, [Refused(_name(items[0]), reason, shown(asdict(items[0])))]
    parts = [_write(connection, writer, part) for part in (items[: len(items) // 2], items[len(items) // 2 :])]
    return sum(new for new, _ in parts), [refused for _, several in parts for refused in several]


def _keep_answer(connection: Connection, source: str, at: datetime, error: UserError) -> int:
    """Quarantine an answer that says nothing, so that a person can see what was sent; how many are new."""
    if not isinstance(error, UnusableAnswerError):
        return 0
    return source_states.quarantine(connection, source, at, [("the whole answer", str(error), error.received)])


def _columns(refused: Sequence[Refused]) -> list[tuple[str, str, str]]:
    return [(item.item, item.reason, item.payload) for item in refused]


def _name(item: Any) -> str:
    """What an item is called at its source."""
    names = ("external_id", "transaction_id", "market_id", "series")
    return str(next((getattr(item, name) for name in names if hasattr(item, name)), type(item).__name__))


def _moment(item: Any) -> datetime:
    """The time that an item speaks of."""
    return item.published_at if isinstance(item, TextItem) else item.ts
