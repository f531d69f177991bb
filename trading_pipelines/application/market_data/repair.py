"""Ask again for what is missing, and let another exchange's candles stand in where that is wanted.

Belongs here: one round over the open gaps. Does not belong here: how a gap is found (`store.repositories.gaps`) and
when a round is made (`defs.market_data.repair`).

A candle of another exchange is stored only where both exchanges agree on the bars beside the gap, and it is marked:
`ohlcv_substitutes` names it, the ledger names the exchange. Once the own exchange delivers, its candle replaces it.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pandas as pd
import psycopg
import structlog

from trading_pipelines.adapters.sources.base import MarketDataSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.candles import split_valid
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.settings import RepairSettings
from trading_pipelines.store.repositories import candles, gaps
from trading_pipelines.store.repositories.gaps import OpenGap, Proof
from trading_pipelines.store.transaction import committed

log = structlog.get_logger(__name__)


@dataclass
class RepairReport:
    """What one round has done."""

    asked: int = 0
    """Gaps that the own exchange was asked about."""
    repaired: int = 0
    """Of these, filled by it."""
    substituted: int = 0
    """Candles of the second exchange that stand in."""
    refused: list[str] = field(default_factory=list[str])
    """Why candles of the second exchange were not taken, a line per gap."""
    errors: list[str] = field(default_factory=list[str])


def repair_gaps(
    connection: psycopg.Connection[Any],
    source: MarketDataSource,
    timeframe: Timeframe,
    rules: RepairSettings,
    second: MarketDataSource | None = None,
) -> RepairReport:
    """Ask `source`, then `second`, for each open gap and nothing else; what was found is committed gap by gap."""
    with committed(connection):
        pause = timedelta(minutes=rules.pause_minutes)
        found = gaps.open_gaps(connection, source.exchange, timeframe, pause, rules.most)
    report = RepairReport()
    proof = Proof(rules.times, timedelta(hours=rules.hours))
    for gap in found:
        try:
            outcome = ingest(
                connection,
                source,
                [gap.symbol],
                timeframe,
                gap.start,
                gap.end,
                refetch=True,
                follow=False,
                proof=proof,
            )
            report.errors += outcome.errors
        except UserError as error:
            report.errors.append(f"{gap.symbol}: {error}")
            continue
        report.asked += 1
        with committed(connection):
            is_open = gaps.is_open(connection, gap, timeframe)
        if not is_open:
            report.repaired += 1
        elif second is not None:
            _substitute(connection, second, gap, timeframe, rules.max_difference, report)
    return report


def _substitute(
    connection: psycopg.Connection[Any],
    second: MarketDataSource,
    gap: OpenGap,
    timeframe: Timeframe,
    max_difference: float,
    report: RepairReport,
) -> None:
    where = f"{gap.symbol} {gap.start:%Y-%m-%d %H:%M}"
    try:
        offered = _candles_around(second, gap, timeframe)
    except UserError as error:
        report.errors.append(f"{where}: {error}")
        return
    with committed(connection):
        around = (gap.start - timeframe.delta, gap.end + timeframe.delta)
        own = candles.read_candles(connection, gap.instrument_id, timeframe, *around)
        inside = offered[(offered["ts"] >= gap.start) & (offered["ts"] < gap.end) & ~offered["ts"].isin(own["ts"])]
        reason = _objection(own, offered, inside, max_difference)
        if reason is not None:
            report.refused.append(f"{where}: {second.exchange} {reason}")
            return
        with connection.cursor() as cursor:
            candles.upsert_candles(cursor, gap.instrument_id, timeframe, inside)
        span = (gap.start, gap.end)
        candles.derive(connection, [gap.instrument_id], timeframe, *span)
        gaps.record_gaps(connection, [gap.instrument_id], timeframe, *span)
        times = [ts.to_pydatetime() for ts in inside["ts"]]
        gaps.mark_substituted(connection, gap.instrument_id, timeframe, times, second.exchange)
    report.substituted += len(inside)
    log.info("another exchange stands in", symbol=gap.symbol, exchange=second.exchange, candles=len(inside))


def _candles_around(second: MarketDataSource, gap: OpenGap, timeframe: Timeframe) -> pd.DataFrame:
    """Valid candles of the gap and of the bars beside it."""
    known = {instrument.symbol: instrument for instrument in second.instruments()}
    if gap.symbol not in known or timeframe not in second.timeframes(gap.symbol):
        raise UserError(f"{second.exchange} has no {timeframe} candles of {gap.symbol}")
    start, end = gap.start - timeframe.delta, gap.end + timeframe.delta
    pages = [page.candles for page in second.candles(known[gap.symbol], timeframe, start, end)]
    if not pages:
        raise UserError(f"{second.exchange} has no candles there")
    return split_valid(pd.concat(pages, ignore_index=True), timeframe, second.now()).good


def _objection(own: pd.DataFrame, offered: pd.DataFrame, inside: pd.DataFrame, max_difference: float) -> str | None:
    """Why the candles of the second exchange cannot stand in; None if they can."""
    if inside.empty:
        return "has no candle there either"
    both = own.merge(offered, on="ts", suffixes=("", "_offered"))
    if both.empty:
        return "shares no bar beside the gap"
    difference = float((both["close_offered"] / both["close"] - 1).abs().max())
    return f"differs by {difference:.2%} beside the gap" if difference > max_difference else None
