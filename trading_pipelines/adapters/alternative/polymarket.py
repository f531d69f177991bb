"""Polymarket: markets about coins (Gamma, https://docs.polymarket.com) and the history of their prices (CLOB).

Belongs here: paging through what is listed, reading single markets, asking for histories. Does not belong here: what a
question asks and which odds are believed (`domain.prediction_markets.markets`).
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery, Refused, wall_clock
from trading_pipelines.adapters.alternative.reading import UnfitItemError, gather, instant, number, sift, text
from trading_pipelines.adapters.alternative.reading import field as part
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.domain.alternative.texts import plain_text
from trading_pipelines.domain.prediction_markets.markets import (
    MarketKind,
    MarketOdds,
    MarketStatus,
    OddsPolicy,
    PredictionMarket,
    is_liquid,
    read_question,
)

NAME = "polymarket"
PAGE = 100
_HOUR = timedelta(hours=1)
_LIVE = timedelta(hours=2)
"""How far back the listing counts as that of the time that is asked for."""
_GAP = timedelta(days=2)
"""A span that is longer was not looked at while it passed, and is filled from histories."""
_LONGEST_HISTORY = timedelta(days=14)
"""What one request for a history may span at an hour's resolution."""
_LOOK_UP = 20
_SHORT_SLUG = re.compile(r"-updown-\d+[mh]-")
_CLOCK_TIME = re.compile(r"\b\d{1,2}(?::\d\d)?\s?[AP]M\b")
_QUESTION_CHARACTERS = 500


@dataclass(frozen=True)
class _Seen:
    """A market as it is listed, with what is needed to ask for its history."""

    market: PredictionMarket
    odds: MarketOdds | None
    token: str | None


@dataclass
class Polymarket:
    """Every market about a coin that lives long enough, its odds now, and their history where the span needs it."""

    gamma: HttpClient
    clob: HttpClient
    policy: OddsPolicy = field(default_factory=OddsPolicy)
    tag: str = "crypto"
    most_pages: int = 40
    most_histories: int = 150
    clock: Callable[[], datetime] = wall_clock
    name: str = NAME

    def fetch(self, since: datetime, until: datetime) -> Delivery[PredictionMarket | MarketOdds]:
        """Markets as they stand, their odds of now where `until` is now, and those of (since, until] before that."""
        now = self.clock()
        is_live = until > now - _LIVE
        listed = sift(self._listed_markets(), lambda one: self._read(one, now), lambda one: part(one, "id"))
        seen: dict[str, _Seen] = {one.market.market_id: one for one in listed.items}
        items: list[PredictionMarket | MarketOdds] = [one.market for one in seen.values()]
        refused = list(listed.refused)
        if until - since > _GAP or not is_live:
            try:
                histories = self._histories(list(seen.values()), since, min(until, now - _HOUR))
            except SourceError as error:
                histories = Delivery[MarketOdds](refused=(Refused("histories", str(error), ""),))
            items.extend(histories.items)
            refused.extend(histories.refused)
        if is_live:
            items.extend(one.odds for one in seen.values() if one.odds is not None)
        return Delivery(tuple(items), tuple(refused))

    def look_up(self, market_ids: Sequence[str], now: datetime) -> Delivery[PredictionMarket]:
        """Markets by name; those that the service does not know any more are left out."""
        found: dict[str, PredictionMarket] = {}
        refused: list[Refused] = []
        for start in range(0, len(market_ids), _LOOK_UP):
            wanted = market_ids[start : start + _LOOK_UP]
            for closed in ("true", "false"):
                query = "&".join(f"id={market_id}" for market_id in wanted if market_id.isalnum())
                answer = self.gamma.get_json(f"markets?{query}&closed={closed}&limit={_LOOK_UP}")
                told = sift(_listed(answer), lambda one: self._read(one, now), lambda one: part(one, "id"))
                found |= {one.market.market_id: one.market for one in told.items if one.market.market_id in wanted}
                refused.extend(told.refused)
        return Delivery(tuple(found.values()), tuple(refused))

    def _listed_markets(self) -> Iterator[Any]:
        """Every market of every open event of the tag, with its event."""
        for page in range(self.most_pages):
            asked = {"closed": "false", "tag_slug": self.tag, "limit": str(PAGE), "offset": str(page * PAGE)}
            events = _listed(self.gamma.get_json("events", asked))
            for event in events:
                markets = event.get("markets") if isinstance(event, dict) else None
                for market in markets if isinstance(markets, list) else []:
                    yield {**market, "event_id": event.get("id")} if isinstance(market, dict) else market
            if len(events) < PAGE:
                return

    def _read(self, received: Any, now: datetime) -> _Seen | None:
        """A market; None where it is not about a coin or is over too soon."""
        question = _question(received)
        asked = read_question(question)
        if asked is None or _is_short(received, question, asked.kind, self.policy):
            return None
        prices = _prices(received)
        closed = part(received, "closed")
        status = MarketStatus.RESOLVED if closed is True else MarketStatus.OPEN
        market = PredictionMarket(
            source=NAME,
            market_id=text(received, "id", most=100),
            event_id=_event(received),
            question=question,
            coin=asked.coin,
            kind=asked.kind,
            strike=asked.strike,
            upper_strike=asked.upper_strike,
            expires_at=_time(received, "endDate"),
            ts=now,
            status=status,
            outcome=_outcome(prices) if status is MarketStatus.RESOLVED else None,
        )
        if status is MarketStatus.RESOLVED:
            return _Seen(market, None, None)
        if not 0.97 <= sum(prices) <= 1.03:
            raise UnfitItemError(f"outcomePrices sum to {sum(prices):g}")
        odds = MarketOdds(
            source=NAME,
            market_id=market.market_id,
            ts=now,
            available_at=now,
            probability=prices[0],
            spread=number(received, "spread", low=0.0, high=1.0),
            liquidity_usd=number(received, "liquidityNum", low=0.0),
            volume_usd=number(received, "volumeNum", low=0.0),
        )
        return _Seen(market, odds, _token(received))

    def _histories(self, seen: Sequence[_Seen], since: datetime, until: datetime) -> Delivery[MarketOdds]:
        """Prices of the most liquid markets on prices, hour by hour; one that fails is refused, the others count."""
        wanted = [
            one
            for one in seen
            if one.token is not None
            and one.odds is not None
            and one.market.strike is not None
            and is_liquid(one.odds.spread, one.odds.liquidity_usd, one.odds.volume_usd, self.policy)
        ]
        wanted.sort(key=lambda one: -(one.odds.liquidity_usd or 0.0) if one.odds else 0.0)
        spans = [(at, min(until, at + _LONGEST_HISTORY)) for at in _steps(since, until, _LONGEST_HISTORY)]
        return gather(
            [
                (f"history of {one.market.market_id} since {start:%Y-%m-%d}", partial(self._history, one, start, end))
                for one in wanted[: self.most_histories]
                for start, end in spans
            ]
        )

    def _history(self, one: _Seen, start: datetime, end: datetime) -> Delivery[MarketOdds]:
        asked = {
            "market": one.token or "",
            "startTs": str(int(start.timestamp())),
            "endTs": str(int(end.timestamp())),
            "fidelity": "60",
        }
        answer = self.clob.get_json("prices-history", asked)
        points = answer.get("history") if isinstance(answer, dict) else None
        if not isinstance(points, list):
            raise UnusableAnswerError(
                f"{self.name} answers in another shape than it documents: history is no list", answer
            )

        def read(point: Any) -> MarketOdds | None:
            ts = instant(point, "t", latest=end + _HOUR)
            probability = number(point, "p", low=0.0, high=1.0)
            if not start < ts <= end:
                return None
            return MarketOdds(NAME, one.market.market_id, ts, _next_hour(ts), probability)

        return sift(points, read, lambda point: f"{one.market.market_id} at {part(point, 't')}")


def _listed(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        reason = answer.get("error") if isinstance(answer, dict) else "no list"
        raise UnusableAnswerError(f"{NAME} refuses: {str(reason)[:200]}", answer)
    return answer


def _question(received: Any) -> str:
    """The question as one line of visible characters."""
    question = part(received, "question")
    if not isinstance(question, str):
        raise UnfitItemError("question is no text")
    return plain_text(question[: 10 * _QUESTION_CHARACTERS])[:_QUESTION_CHARACTERS]


def _is_short(received: Any, question: str, kind: MarketKind, policy: OddsPolicy) -> bool:
    """Whether a market lives too short, by its window, its name or the clock times in its question."""
    started = received.get("eventStartTime")
    if isinstance(started, str):
        life = _time(received, "endDate") - _time(received, "eventStartTime")
        if life < timedelta(hours=policy.least_life_hours):
            return True
    is_hourly = bool(_SHORT_SLUG.search(str(received.get("slug", ""))) or _CLOCK_TIME.search(question))
    return kind is MarketKind.UP_OR_DOWN and is_hourly


def _prices(received: Any) -> list[float]:
    """Prices of the two outcomes; the first one is Yes or Up."""
    outcomes, prices = _json_list(received, "outcomes"), _json_list(received, "outcomePrices")
    if [str(outcome).lower() for outcome in outcomes] not in (["yes", "no"], ["up", "down"]) or len(prices) != 2:
        raise UnfitItemError("its outcomes are not Yes and No or Up and Down")
    return [number({"outcomePrices": price}, "outcomePrices", low=0.0, high=1.0) for price in prices]


def _outcome(prices: Sequence[float]) -> float | None:
    """What the first outcome paid: all, nothing or half of it.

    A market that is closed and not settled yet has its last prices, an old one two zeros: they say nothing.
    """
    settled = sum(prices) == 1 and prices[0] in (0.0, 0.5, 1.0)
    return prices[0] if settled else None


def _token(received: Any) -> str | None:
    tokens = _json_list(received, "clobTokenIds") if received.get("clobTokenIds") else []
    return str(tokens[0])[:100] if tokens else None


def _json_list(received: Any, name: str) -> list[Any]:
    """A list that is written as text inside the JSON."""
    value = part(received, name)
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise UnfitItemError(f"{name} is no list")
    return found


def _event(received: Any) -> str:
    """Name of the event that a market belongs to, by its listing or by itself."""
    if received.get("event_id"):
        return text(received, "event_id", most=100)
    events = received.get("events")
    has_one = isinstance(events, list) and events and isinstance(events[0], dict)
    return text(events[0], "id", most=100) if has_one else "none"


def _steps(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += step


def _time(received: Any, name: str) -> datetime:
    text = part(received, name)
    if not isinstance(text, str):
        raise UnfitItemError(f"{name} is no text")
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _next_hour(ts: datetime) -> datetime:
    floor = ts.replace(minute=0, second=0, microsecond=0)
    return floor if floor == ts else floor + _HOUR
