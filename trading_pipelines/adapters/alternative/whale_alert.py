"""Whale Alert: large transactions on many chains (https://docs.whale-alert.io, version 1).

Belongs here: asking, paging, reading single transactions. Does not belong here: who is a whale and which direction a
transaction has (`domain.onchain.transactions`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError, wall_clock
from trading_pipelines.adapters.alternative.reading import field, instant, number, sift, text
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError
from trading_pipelines.domain.onchain.transactions import FlowThresholds, WhaleTransaction, coin_behind, owner_kind

NAME = "whale_alert"
PAGE = 100
_AHEAD = timedelta(minutes=10)
"""How far the clock of a chain may be ahead."""
_PUBLISHED = timedelta(minutes=10)
"""From a transaction until it is reported, for transactions that are history when they are fetched."""
_HISTORY = timedelta(hours=6)


@dataclass
class WhaleAlert:
    """Large transactions, with the cursor that the service hands out from page to page."""

    client: HttpClient
    api_key: str | None
    thresholds: FlowThresholds
    history: timedelta = timedelta(minutes=59)
    most_pages: int = 20
    clock: Callable[[], datetime] = wall_clock
    name: str = NAME

    def fetch(self, since: datetime, until: datetime) -> Delivery[WhaleTransaction]:
        """Transactions of (since, until], as far back as the plan goes, each once."""
        if self.api_key is None:
            raise NotConfiguredError("set TRADING_ALTERNATIVE__WHALE_ALERT__API_KEY to a key of whale-alert.io")
        now = self.clock()
        start = max(since, now - self.history)
        if start >= until:
            return Delivery()
        received = list(self._pages(start, until))
        delivery = sift(received, lambda one: self._read(one, now), lambda one: field(one, "id"))
        first: dict[str, WhaleTransaction] = {}
        for item in delivery.items:
            first.setdefault(item.transaction_id, item)
        return Delivery(tuple(sorted(first.values(), key=lambda item: item.ts)), delivery.refused)

    def _pages(self, start: datetime, until: datetime) -> Iterator[Any]:
        asked = {
            "start": str(int(start.timestamp())),
            "end": str(int(until.timestamp())),
            "min_value": str(int(min(self.thresholds.major_usd, self.thresholds.other_usd))),
            "limit": str(PAGE),
        }
        for _ in range(self.most_pages):
            answer = self.client.get_json("transactions", asked, {"X-WA-API-KEY": self.api_key or ""})
            if not isinstance(answer, dict) or answer.get("result") != "success":
                reason = answer.get("message") if isinstance(answer, dict) else "no object"
                raise UnusableAnswerError(f"{self.name} refuses: {str(reason)[:200]}", answer)
            found = answer.get("transactions") or []
            if not isinstance(found, list):
                raise UnusableAnswerError(
                    f"{self.name} answers in another shape than it documents: transactions is no list", answer
                )
            yield from found
            cursor = answer.get("cursor")
            if len(found) < PAGE or not cursor or cursor == asked.get("cursor"):
                return
            asked["cursor"] = str(cursor)

    def _read(self, received: Any, now: datetime) -> WhaleTransaction | None:
        """A transaction; None where it is too small for its coin."""
        coin = coin_behind(text(received, "symbol", most=20))
        usd = number(received, "amount_usd", low=0.01)
        amount = number(received, "amount", low=1e-12)
        ts = instant(received, "timestamp", latest=now + _AHEAD)
        sender, recipient = _owner(received, "from"), _owner(received, "to")
        if usd <= self.thresholds.minimum_usd(coin):
            return None
        is_history = now - ts > _HISTORY
        return WhaleTransaction(
            source=NAME,
            transaction_id=text(received, "id", most=100),
            blockchain=text(received, "blockchain", most=40),
            coin=coin,
            ts=ts,
            available_at=ts + _PUBLISHED if is_history else max(now, ts),
            amount=amount,
            amount_usd=usd,
            sender_kind=owner_kind(sender[0], sender[1:], self.thresholds),
            sender=sender[1] or sender[2],
            recipient_kind=owner_kind(recipient[0], recipient[1:], self.thresholds),
            recipient=recipient[1] or recipient[2],
        )


def _owner(received: Any, end: str) -> tuple[str, str, str]:
    """Type, name and address of one end; name and address are not always known."""
    kind = text(received, end, "owner_type", most=40)
    return kind, _optional(received, end, "owner"), _optional(received, end, "address") or "unknown"


def _optional(received: Any, end: str, name: str) -> str:
    """The text at a place that may be empty; addresses of some chains have over a hundred characters."""
    return text(received, end, name, most=200) if received[end].get(name) else ""
