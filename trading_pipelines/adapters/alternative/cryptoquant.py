"""CryptoQuant: what goes to exchanges and from them each hour (https://cryptoquant.com/docs).

Belongs here: asking and joining inflow with outflow. Does not belong here: what coins are worth
(`application.alternative.flows`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError, Refused, wall_clock
from trading_pipelines.adapters.alternative.reading import UnfitItemError, field, gather, number, sift
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError, shown
from trading_pipelines.domain.alternative.series import MARKET
from trading_pipelines.domain.onchain.transactions import ExchangeFlow

NAME = "cryptoquant"
ASSETS = {"BTC": ("btc", {}), "ETH": ("eth", {}), MARKET: ("stablecoin", {"token": "all_token"})}
"""Coins by their part of the address; stablecoins are coins of one USD."""
_HOUR = timedelta(hours=1)
_PUBLISHED, _HISTORY = timedelta(minutes=15), timedelta(days=1)
_MOST_HOURS = 1_000


@dataclass
class CryptoQuant:
    """Hourly flows of all exchanges."""

    client: HttpClient
    api_key: str | None
    clock: Callable[[], datetime] = wall_clock
    name: str = NAME

    def fetch(self, since: datetime, until: datetime) -> Delivery[ExchangeFlow]:
        """Hours that ended in (since, until]; a coin whose answer fails is refused, and the others count."""
        if self.api_key is None:
            raise NotConfiguredError("set TRADING_ALTERNATIVE__CRYPTOQUANT__API_KEY to a key of cryptoquant.com")
        delivery = gather([(coin, partial(self._coin, coin, since, until)) for coin in ASSETS])
        return Delivery(tuple(sorted(delivery.items, key=lambda item: (item.ts, item.coin))), delivery.refused)

    def _coin(self, coin: str, since: datetime, until: datetime) -> Delivery[ExchangeFlow]:
        asset, extra = ASSETS[coin]
        sides = [self._hours(asset, side, extra, since, until) for side in ("inflow", "outflow")]
        inflow, outflow = (dict(side.items) for side in sides)
        lonely = (
            Refused(f"{coin} {ts:%Y-%m-%d %H:%M}", "has no counterpart", shown({"ts": str(ts)}))
            for ts in sorted(inflow.keys() ^ outflow.keys())
        )
        return Delivery(
            tuple(self._flow(coin, ts, inflow[ts], outflow[ts]) for ts in sorted(inflow.keys() & outflow.keys())),
            (*sides[0].refused, *sides[1].refused, *lonely),
        )

    def _hours(
        self, asset: str, side: str, extra: dict[str, str], since: datetime, until: datetime
    ) -> Delivery[tuple[datetime, float]]:
        asked = {
            "exchange": "all_exchange",
            "window": "hour",
            "from": f"{since - _HOUR:%Y%m%dT%H%M%S}",
            "to": f"{until:%Y%m%dT%H%M%S}",
            "limit": str(_MOST_HOURS),
            **extra,
        }
        answer = self.client.get_json(
            f"{asset}/exchange-flows/{side}", asked, {"Authorization": f"Bearer {self.api_key}"}
        )
        status = answer.get("status") if isinstance(answer, dict) else None
        if not isinstance(status, dict) or status.get("code") != 200:
            raise UnusableAnswerError(f"{self.name} refuses {asset} {side}: {shown(status)[:200]}", answer)
        result = answer.get("result")
        rows = result.get("data") if isinstance(result, dict) else None
        if not isinstance(rows, list):
            raise UnusableAnswerError(
                f"{self.name} answers in another shape than it documents: data is no list", answer
            )
        limit = min(until, self.clock())

        def read(row: Any) -> list[tuple[datetime, float]] | None:
            ts = _hour(row)
            amount = number(row, f"{side}_total", low=0.0)
            return [(ts, amount)] if ts + _HOUR <= limit else None

        return sift(rows, read, lambda row: f"{asset} {side} {field(row, 'datetime')}")

    def _flow(self, coin: str, ts: datetime, inflow: float, outflow: float) -> ExchangeFlow:
        now, published = self.clock(), ts + _HOUR + _PUBLISHED
        known = published if now - published > _HISTORY else max(now, ts + _HOUR)
        return ExchangeFlow(NAME, coin, ts, known, inflow, outflow, "USD" if coin == MARKET else "COIN")


def _hour(row: Any) -> datetime:
    text = field(row, "datetime")
    if not isinstance(text, str):
        raise UnfitItemError("datetime is no text")
    ts = datetime.fromisoformat(text).replace(tzinfo=UTC)
    if ts != ts.replace(minute=0, second=0, microsecond=0):
        raise UnfitItemError(f"datetime {text[:40]} is no full hour")
    return ts
