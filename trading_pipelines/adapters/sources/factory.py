"""Which source the settings ask for, and what a user got wrong about its symbols and timeframes."""

import difflib
from collections.abc import Iterable, Sequence

from trading_pipelines.adapters.sources.base import MarketDataSource
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings, SourceName


def open_source(settings: Settings) -> MarketDataSource:
    """Build the source that `TRADING_SOURCE` names.

    Raises
    ------
    UserError
        The settings do not fit the source; the message names the variable.
    """
    match settings.source:
        case SourceName.SIMULATED:
            return SimulatedSource(settings.simulation)
        case SourceName.ARCHIVE:
            raise UserError("TRADING_SOURCE: archive is not available yet")
        case SourceName.CCXT:
            raise UserError("TRADING_SOURCE: ccxt is not available yet")


def choose_instruments(source: MarketDataSource, symbols: Sequence[str]) -> list[Instrument]:
    """Instruments of `symbols` in their order; all of the source if none is named.

    Raises
    ------
    UserError
        The source does not know a symbol.
    """
    offered = {instrument.symbol: instrument for instrument in source.instruments()}
    for symbol in symbols:
        if symbol not in offered:
            raise UserError(f"TRADING_SYMBOLS: {source.name} {source.exchange} has no {symbol}{_hint(symbol, offered)}")
    return [offered[symbol] for symbol in symbols or offered]


def choose_timeframe(source: MarketDataSource, symbols: Sequence[str], wanted: str | None = None) -> Timeframe:
    """The timeframe to fetch: `wanted`, or the finest that the source has for all `symbols`.

    Raises
    ------
    UserError
        `wanted` is no timeframe or missing for a symbol, or the symbols share none.
    """
    offered = {symbol: source.timeframes(symbol) for symbol in symbols}
    if wanted is not None:
        if wanted not in list(Timeframe):
            raise UserError(f"TRADING_BASE_TIMEFRAME: no timeframe {wanted}; use {_list(Timeframe)}")
        for symbol, timeframes in offered.items():
            if wanted not in timeframes:
                raise UserError(
                    f"TRADING_BASE_TIMEFRAME: {source.name} {source.exchange} has no {wanted} candles"
                    f" of {symbol}; it has {_list(timeframes)}"
                )
        return Timeframe(wanted)
    shared = [t for t in Timeframe if all(t in timeframes for timeframes in offered.values())]
    if not shared:
        raise UserError(
            "TRADING_SYMBOLS: no timeframe is on offer for all of them; "
            + "; ".join(f"{symbol} has {_list(timeframes)}" for symbol, timeframes in offered.items())
        )
    return shared[0]


def _list(names: Iterable[str]) -> str:
    return ", ".join(str(name) for name in names) or "none"


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {_list(sorted(known)[:20])}"
