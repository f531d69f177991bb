"""Large transactions: who sent and received, which are large enough, which direction they have.

Belongs here: what a transaction is and how its two ends are classified. Does not belong here: where transactions come
from (`adapters.alternative.whale_alert`) and what sums of them say (`domain.onchain.flows`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

STABLECOINS = frozenset({"USDT", "USDC", "DAI", "FDUSD", "TUSD", "BUSD", "USDE", "PYUSD", "USDP", "USD1", "USDD"})
"""Coins that follow the dollar: on their way to an exchange they are money that may buy."""
_WRAPPED = {
    "WBTC": "BTC",
    "CBBTC": "BTC",
    "BTCB": "BTC",
    "WETH": "ETH",
    "STETH": "ETH",
    "WSTETH": "ETH",
    "WBETH": "ETH",
}
"""Claims on another coin; a move of one is a move of the other."""


class OwnerKind(StrEnum):
    """Who holds an address."""

    EXCHANGE = "EXCHANGE"
    WHALE = "WHALE"
    """Known to be a large holder: a fund, a treasury, a miner, or a name that the settings list."""
    UNKNOWN = "UNKNOWN"


class FlowDirection(StrEnum):
    """Seen from the exchanges."""

    INFLOW = "INFLOW"
    OUTFLOW = "OUTFLOW"
    TRANSFER = "TRANSFER"
    """Between exchanges, or without one."""


class FlowThresholds(BaseModel, frozen=True, extra="forbid"):
    """From which size on a transaction is looked at; USD."""

    major_coins: tuple[str, ...] = ("BTC", "ETH")
    major_usd: float = Field(default=1_000_000.0, gt=0)
    other_usd: float = Field(default=500_000.0, gt=0)
    alert_usd: float = Field(default=10_000_000.0, gt=0)
    """From here on an event is raised."""
    alert_within_minutes: float = Field(default=60.0, gt=0)
    """A transaction that is older when it is seen is history and no alert."""
    whales: tuple[str, ...] = ()
    """Names or addresses of owners to be taken for whales, besides what a source says."""

    def minimum_usd(self, coin: str) -> float:
        """The size from which on a transaction of `coin` counts."""
        return self.major_usd if coin in self.major_coins else self.other_usd


@dataclass(frozen=True)
class WhaleTransaction:
    """One large transaction; both times are UTC.

    Attributes
    ----------
    transaction_id : str
        Name of the transaction at its source, unique there; a repeated one is the same.
    ts, available_at : datetime
        When it entered its chain, and from when on anyone could know of it.
    sender, recipient : str
        Name of the owner, or the address.
    """

    source: str
    transaction_id: str
    blockchain: str
    coin: str
    ts: datetime
    available_at: datetime
    amount: float
    amount_usd: float
    sender_kind: OwnerKind
    sender: str
    recipient_kind: OwnerKind
    recipient: str

    @property
    def direction(self) -> FlowDirection:
        """To exchanges, from them, or neither."""
        return direction_of(self.sender_kind, self.recipient_kind)


def direction_of(sender: OwnerKind, recipient: OwnerKind) -> FlowDirection:
    """What a transaction between two kinds of owners means for the exchanges."""
    to_exchange, from_exchange = recipient is OwnerKind.EXCHANGE, sender is OwnerKind.EXCHANGE
    if to_exchange == from_exchange:
        return FlowDirection.TRANSFER
    return FlowDirection.INFLOW if to_exchange else FlowDirection.OUTFLOW


def owner_kind(owner_type: str, names: tuple[str, ...], thresholds: FlowThresholds) -> OwnerKind:
    """Classify an owner.

    Parameters
    ----------
    owner_type : str
        What the source says, for example `exchange`, `wallet` or `unknown`.
    names : tuple of str
        Name and address, compared without regard to case.

    Notes
    -----
    An exchange is what the source calls one. Any other named type (a fund, a treasury, a miner) and every name that
    the settings list is a whale. What the source does not know is unknown: an address is not taken for a whale because
    it sends much once.
    """
    kind = owner_type.strip().lower()
    if kind in {"exchange", "exchange wallet", "cex"}:
        return OwnerKind.EXCHANGE
    listed = {name.strip().lower() for name in thresholds.whales}
    if listed & {name.strip().lower() for name in names if name}:
        return OwnerKind.WHALE
    return OwnerKind.UNKNOWN if kind in {"", "unknown", "wallet", "other"} else OwnerKind.WHALE


def coin_behind(symbol: str, renamed: Mapping[str, str] = _WRAPPED) -> str:
    """The coin that a symbol on a chain stands for: `wbtc` is BTC."""
    upper = symbol.strip().upper()
    return renamed.get(upper, upper)


@dataclass(frozen=True)
class ExchangeFlow:
    """What went to exchanges and from them in the hour that starts at `ts`, in USD or in coins (`unit`)."""

    source: str
    coin: str
    ts: datetime
    available_at: datetime
    inflow: float
    outflow: float
    unit: str
