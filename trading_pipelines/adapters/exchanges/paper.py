"""The simulated exchange: an account in PostgreSQL behind the port that real exchanges have.

Its tables are its own: the platform learns what is in them by asking, as it would a real exchange. What happens to
orders is decided by `domain.execution.paper_account`; here each operation becomes one transaction under the lock of
the account, so a process that dies in the middle has done all of it or nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OrderRefused
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import (
    BalanceReport,
    BracketRequest,
    FillReport,
    FundingReport,
    OrderReport,
    OrderRequest,
    PositionReport,
)
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import FundingEvent, MarketEvent, PaperOrder
from trading_pipelines.domain.execution.refusals import Refusal
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.store.repositories import paper_exchange as store
from trading_pipelines.store.transaction import committed

__all__ = ["FundingEvent", "MarketEvent", "PaperExchange"]

_Result = TypeVar("_Result")


class PaperExchange:
    """One account; every operation is a transaction of its own over `connection`.

    The connection may be the platform's: what is open on it is committed before the exchange begins. The account
    is opened with the session's start capital at its first use; liquidity, latency and slippage are the session's.
    """

    def __init__(self, connection: psycopg.Connection[Any], session_id: UUID, params: ExecutionParams) -> None:
        self._connection = connection
        self._session_id = session_id
        self._params = params

    def advance(self, events: Sequence[MarketEvent]) -> int:
        """Let the market move, in the order of `events`; how many fills and funding payments that made.

        An event that does not end after what was applied before changes nothing, so missed bars may be given
        again, and must be given before newer ticks.
        """
        if not events:
            return 0
        with committed(self._connection):
            if store.pass_idle(self._connection, self._session_id, events):
                return 0
        return self._change(lambda account: _advance(account, events))

    def advanced_to(self) -> dict[int, datetime]:
        """Up to when each market has been applied, by instrument id; missed bars start there."""
        with committed(self._connection):
            return {
                market.instrument_id: market.advanced_to for market in store.markets(self._connection, self._session_id)
            }

    def create_bracket(self, request: BracketRequest) -> tuple[OrderReport, ...]:
        """Place an entry with its exits, all or nothing."""
        ids = [leg.client_order_id for leg in request.legs]
        instrument_id = request.entry.instrument_id
        return self._place(ids, instrument_id, lambda account, instrument: account.place_bracket(request, instrument))

    def create_order(self, request: OrderRequest) -> OrderReport:
        """Place one order."""
        return self._place(
            [request.client_order_id],
            request.instrument_id,
            lambda account, instrument: (account.place(request, instrument),),
        )[0]

    def replace_order(self, client_order_id: str, request: OrderRequest) -> OrderReport:
        """Put an exit in the place of a working one, in one transaction."""
        return self._place(
            [request.client_order_id],
            request.instrument_id,
            lambda account, instrument: (account.replace(client_order_id, request, instrument),),
        )[0]

    def cancel_order(self, client_order_id: str) -> OrderReport:
        """Cancel a working order, an entry with its exits; a final one is reported as it is."""

        def cancel(account: PaperAccount) -> OrderReport:
            order = account.cancel(client_order_id, "cancelled on request") or self._find(client_order_id)
            if order is None:
                raise OrderRefused(Refusal.ORDER_NOT_FOUND, f"{client_order_id} was never placed")
            return order.report()

        return self._change(cancel)

    def fetch_order(self, client_order_id: str) -> OrderReport | None:
        """Look one order up; None is proof that it was never placed."""
        with committed(self._connection):
            order = self._find(client_order_id)
        return None if order is None else order.report()

    def fetch_open_orders(self) -> list[OrderReport]:
        """Working orders, held exits included."""
        return [order.report() for order in self._read().orders.values()]

    def fetch_positions(self) -> list[PositionReport]:
        """Open positions, marked at the newest prices."""
        return self._read().position_reports()

    def fetch_fills(self, since_sequence: int) -> list[FillReport]:
        """Fills after `since_sequence`."""
        with committed(self._connection):
            fills = store.fills(self._connection, self._session_id, since_sequence)
        prefix = self._session_id.hex
        return [FillReport(fill_id=f"{prefix}-{fill.sequence}", **vars(fill)) for fill in fills]

    def fetch_funding(self, since_sequence: int) -> list[FundingReport]:
        """Funding payments after `since_sequence`."""
        with committed(self._connection):
            payments = store.funding(self._connection, self._session_id, since_sequence)
        return [FundingReport(**vars(payment)) for payment in payments]

    def fetch_balance(self) -> BalanceReport:
        """Cash, bound margin and unrealised result at the newest prices."""
        account = self._read()
        return BalanceReport(account.cash, account.margin, account.unrealised)

    def _place(
        self,
        client_order_ids: Sequence[str],
        instrument_id: int,
        place: Callable[[PaperAccount, Instrument], Sequence[PaperOrder]],
    ) -> tuple[OrderReport, ...]:
        def once(account: PaperAccount) -> tuple[OrderReport, ...]:
            known = store.find_orders(self._connection, self._session_id, client_order_ids)
            if known:
                return tuple(known[name].report() for name in client_order_ids)
            instrument = store.find_instrument(self._connection, instrument_id)
            if instrument is None:
                raise OrderRefused(Refusal.UNKNOWN_SYMBOL, f"instrument {instrument_id} is not traded here")
            if instrument_id not in account.markets:
                raise ExchangeUnavailable(f"{instrument.symbol} has had no price yet")
            return tuple(order.report() for order in place(account, instrument))

        return self._change(once)

    def _change(self, operate: Callable[[PaperAccount], _Result]) -> _Result:
        with committed(self._connection):
            account = self._account(lock=True)
            result = operate(account)
            store.save(self._connection, self._session_id, account)
            return result

    def _read(self) -> PaperAccount:
        with committed(self._connection):
            return self._account(lock=False)

    def _account(self, *, lock: bool) -> PaperAccount:
        account = store.load(self._connection, self._session_id, self._params, lock=lock)
        if account is None:
            store.open_account(self._connection, self._session_id)
            account = store.load(self._connection, self._session_id, self._params, lock=lock)
        if account is None:
            raise ExchangeUnavailable(f"there is no session {self._session_id}")
        return account

    def _find(self, client_order_id: str) -> PaperOrder | None:
        return store.find_orders(self._connection, self._session_id, [client_order_id]).get(client_order_id)


def _advance(account: PaperAccount, events: Sequence[MarketEvent]) -> int:
    for event in events:
        account.advance(event)
    return len(account.changes.fills) + len(account.changes.funding)
