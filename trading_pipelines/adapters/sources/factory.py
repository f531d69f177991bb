"""Which source the settings ask for, and what a user got wrong about its symbols and timeframes."""

import difflib
from collections.abc import Container, Iterable, Sequence

from trading_pipelines.adapters.sources.archive import ArchiveSource, exchanges_in
from trading_pipelines.adapters.sources.archive.layout import LAYOUTS
from trading_pipelines.adapters.sources.base import MarketDataSource
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.adapters.sources.venues import VENUES
from trading_pipelines.domain.market.instrument import Instrument, ListingStatus
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
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
            return _open_simulated(settings)
        case SourceName.ARCHIVE:
            return _open_archive(settings)
        case SourceName.CCXT:
            return _open_ccxt(settings)


def open_second_source(settings: Settings) -> MarketDataSource | None:
    """The exchange of `TRADING_REPAIR__SECOND_SOURCE`, in the same archive or by the same client; None if unset.

    Raises
    ------
    UserError
        There is no such exchange, or it is the first one.
    """
    exchange = settings.repair.second_source
    if exchange is None:
        return None
    if exchange == settings.exchange or settings.source is SourceName.SIMULATED:
        raise UserError(f"TRADING_REPAIR__SECOND_SOURCE: {exchange} is no other exchange than {settings.exchange}")
    try:
        return open_source(settings.model_copy(update={"exchange": exchange}))
    except UserError as error:
        raise UserError(str(error).replace("TRADING_EXCHANGE", "TRADING_REPAIR__SECOND_SOURCE")) from error


def _open_simulated(settings: Settings) -> MarketDataSource:
    if settings.exchange != SIMULATED_EXCHANGE:
        raise UserError(
            f"TRADING_EXCHANGE: the simulated source is no exchange like {settings.exchange}; leave it unset or set"
            " TRADING_SOURCE to archive or ccxt"
        )
    return SimulatedSource(settings.simulation)


def _open_archive(settings: Settings) -> MarketDataSource:
    folder = settings.archive_dir
    if folder is None:
        raise UserError(f"TRADING_ARCHIVE_DIR: name the folder that holds {LAYOUTS}")
    if not folder.is_dir():
        raise UserError(f"TRADING_ARCHIVE_DIR: there is no folder {folder}")
    found = exchanges_in(folder)
    if not found:
        raise UserError(f"TRADING_ARCHIVE_DIR: {folder} holds no {LAYOUTS}")
    if settings.exchange not in found:
        raise UserError(
            f"TRADING_EXCHANGE: {folder} has no candles of {settings.exchange}{_hint(settings.exchange, found)}"
        )
    return ArchiveSource(folder, settings.exchange)


def _open_ccxt(settings: Settings) -> MarketDataSource:
    if settings.exchange not in VENUES:
        raise UserError(
            f"TRADING_EXCHANGE: no exchange {settings.exchange} for the ccxt source{_hint(settings.exchange, VENUES)}"
        )
    if not settings.symbols:
        raise UserError("TRADING_SYMBOLS: name at least one symbol for the ccxt source, for example BTCUSDT,ETHUSDT")
    from trading_pipelines.adapters.sources.ccxt_source import CcxtSource  # slow to import, rarely needed

    return CcxtSource(settings.exchange, settings.ccxt_base_url, limits_folder=settings.data_dir / "limits")


def choose_instruments(
    source: MarketDataSource, symbols: Sequence[str], timeframe: Timeframe | None = None
) -> list[Instrument]:
    """Instruments of `symbols` in their order; if none is named, all that it offers by itself (in `timeframe`).

    By name any pair can be had that the venue lists, halted ones too: their candles so far are there.

    Raises
    ------
    UserError
        The source does not know a symbol.
    """
    offered = _offered(source, symbols)
    for symbol in symbols:
        if symbol not in offered:
            raise UserError(f"TRADING_SYMBOLS: {source.name} {source.exchange} has no {symbol}{_hint(symbol, offered)}")
    if symbols or timeframe is None:
        return [offered[symbol] for symbol in symbols or offered]
    return [instrument for symbol, instrument in offered.items() if timeframe in source.timeframes(symbol)]


def split_vanished(
    source: MarketDataSource, symbols: Sequence[str], stored: Container[str]
) -> tuple[list[str], list[str]]:
    """`symbols` without those that the venue has had once, for they are stored, and lists no more; and these."""
    offered = _offered(source, symbols)
    vanished = [symbol for symbol in symbols if symbol not in offered and symbol in stored]
    return [symbol for symbol in symbols if symbol not in vanished], vanished


def _offered(source: MarketDataSource, symbols: Sequence[str]) -> dict[str, Instrument]:
    """What the source offers by itself, and, where `symbols` name others, all that its venue lists."""
    offered = {instrument.symbol: instrument for instrument in source.instruments()}
    if all(symbol in offered for symbol in symbols):
        return offered
    listed = [one.instrument for one in source.listings() if one.status is not ListingStatus.DELISTED]
    return {instrument.symbol: instrument for instrument in listed} | offered


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
