"""Which stream belongs to a source of market data."""

from trading_pipelines.adapters.sources import MarketDataSource
from trading_pipelines.adapters.streams.base import MarketStream
from trading_pipelines.adapters.streams.simulated import SimulatedStream
from trading_pipelines.adapters.streams.wire import WIRES
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings, SourceName


def can_stream(settings: Settings) -> bool:
    """Whether there is a stream for what the settings name; an archive has none."""
    if settings.source is SourceName.CCXT:
        return settings.exchange in WIRES
    return settings.source is SourceName.SIMULATED


def check_stream(settings: Settings) -> None:
    """Raise a `UserError` if there is no stream for what the settings name."""
    if not can_stream(settings):
        raise UserError(
            f"TRADING_SOURCE: nothing streams from {settings.source} {settings.exchange}; use simulated, or ccxt with"
            f" {', '.join(WIRES)}"
        )


def open_stream(settings: Settings, source: MarketDataSource) -> MarketStream:
    """Build the stream of the same venue as `source`, which may ask that source; nothing is connected yet."""
    check_stream(settings)
    if settings.source is SourceName.SIMULATED:
        return SimulatedStream(settings.simulation)
    # slow to import, rarely needed
    from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
    from trading_pipelines.adapters.streams.ccxt_stream import CcxtStream

    assert isinstance(source, CcxtSource)
    return CcxtStream(settings.exchange, source.markets, settings.collector.base_url)
