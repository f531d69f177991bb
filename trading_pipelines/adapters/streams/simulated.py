"""The simulated market as a stream: its quotes, and trades along the same path."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from trading_pipelines.adapters.streams.base import Channel
from trading_pipelines.adapters.streams.intake import Intake
from trading_pipelines.domain.market.trades import Trade
from trading_pipelines.domain.simulation.market import EXCHANGE, SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

INTERVAL_S = 1.0
_NOTIONAL = 1000.0


class SimulatedStream:
    """A venue that quotes every symbol once a second and trades for the same sum each time, with the price's move."""

    exchange = EXCHANGE

    def __init__(
        self,
        spec: SimulatedMarketSpec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        interval_seconds: float = INTERVAL_S,
    ) -> None:
        self._market = SimulatedMarket(spec)
        self._clock = clock
        self._interval = interval_seconds

    async def run(self, symbols: Sequence[str], channels: Sequence[Channel], intake: Intake) -> None:
        """Deliver into `intake` until cancelled."""
        intake.connect()
        before: dict[str, float] = {}
        try:
            while True:
                at = self._clock()
                for symbol in symbols:
                    before[symbol] = self._deliver(symbol, at, channels, intake, before.get(symbol))
                    await asyncio.sleep(0)
                await asyncio.sleep(self._interval)
        finally:
            intake.disconnect()

    def _deliver(
        self, symbol: str, at: datetime, channels: Sequence[Channel], intake: Intake, before: float | None
    ) -> float:
        quote = self._market.ticker(symbol, at)
        if Channel.TICKERS in channels and intake.admits_quote(symbol, at):
            intake.quote(quote)
        if Channel.TRADES in channels:
            is_buy = before is None or quote.price >= before
            number = str(int(at.timestamp() * 1000))
            trade = Trade(symbol, number, at, quote.price, _NOTIONAL / quote.price, is_buy)
            intake.trade_message([trade], numbered=False)
        return quote.price
