"""The port to which orders go: what every exchange, simulated or real, must offer and how it may fail."""

from collections.abc import Sequence
from typing import Protocol

from trading_pipelines.domain.execution.orders import (
    BalanceReport,
    BracketRequest,
    FillReport,
    FundingReport,
    OrderReport,
    OrderRequest,
    PositionReport,
)
from trading_pipelines.domain.execution.refusals import OrderRefused

__all__ = ["ExchangePort", "ExchangeUnavailable", "OrderRefused", "OutcomeUnknown"]


class OutcomeUnknown(Exception):  # noqa: N818 - named for what is known about the request
    """The reply was lost: the request may be in force; ask with `fetch_order`, never send again blindly."""


class ExchangeUnavailable(Exception):  # noqa: N818 - named for what is known about the request
    """The request was certainly not sent."""


class ExchangePort(Protocol):
    """One trading account on one exchange.

    A request whose client order id the exchange already knows returns the order that is there and changes
    nothing.
    """

    def create_bracket(self, request: BracketRequest) -> tuple[OrderReport, ...]:
        """Place an entry with its exits, all or nothing; reports in the order of `request.legs`."""
        ...

    def create_order(self, request: OrderRequest) -> OrderReport:
        """Place one order."""
        ...

    def replace_order(self, client_order_id: str, request: OrderRequest) -> OrderReport:
        """Put `request` in the place of a working order, without a moment in which neither is in force."""
        ...

    def cancel_order(self, client_order_id: str) -> OrderReport:
        """Cancel a working order; one that is already final is reported as it is."""
        ...

    def fetch_order(self, client_order_id: str) -> OrderReport | None:
        """Look one order up; None is proof that the exchange never saw it."""
        ...

    def fetch_open_orders(self) -> Sequence[OrderReport]:
        """All orders that may still fill."""
        ...

    def fetch_positions(self) -> Sequence[PositionReport]:
        """All open positions; an exchange that cannot tell raises, it never answers with an empty list."""
        ...

    def fetch_fills(self, since_sequence: int) -> Sequence[FillReport]:
        """Fills with a sequence above `since_sequence`, ascending."""
        ...

    def fetch_funding(self, since_sequence: int) -> Sequence[FundingReport]:
        """Funding payments with a sequence above `since_sequence`, ascending."""
        ...

    def fetch_balance(self) -> BalanceReport:
        """The account's balance."""
        ...
