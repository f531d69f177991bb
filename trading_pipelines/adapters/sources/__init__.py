"""Where candles, funding and quotes come from: one interface, chosen by `TRADING_SOURCE`."""

from trading_pipelines.adapters.sources.base import CandlePage, MarketDataSource
from trading_pipelines.adapters.sources.factory import choose_instruments, choose_timeframe, open_source

__all__ = ["CandlePage", "MarketDataSource", "choose_instruments", "choose_timeframe", "open_source"]
