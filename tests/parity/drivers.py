"""The live path as two drivers over a tape, with the clock as an argument.

A live market is seen in ticks, a backtest sees bars; inside a bar of real candles the two cannot agree, because a bar
does not say in which order its prices came and a tick at an extreme fills a stop there and not at its level. So the
tape is made of bars of five minutes with one price each: the open, the extreme farther from it and the close of a real
bar of fifteen minutes. A bar is then exactly one tick, and every driver has to make the same decisions and fills.

The market trades once in each base bar, `TICK_AFTER` its open. Between the close of a bar of the signal timeframe and
that tick the decision has to be made and sent: that is what "filled at the next open" means live.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.adapters.sources.base import CandlePage
from trading_pipelines.application.analysis.scoring import score
from trading_pipelines.application.features.building import build_features, current_feature_set
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.models.prediction import predict
from trading_pipelines.application.signals.emission import emit_signals, expire_signals
from trading_pipelines.application.signals.sessions import paper_session
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.monitor import BarClose, carry_out_exits, manage_at_close
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.spec import ScoringSpec
from trading_pipelines.services.trader import Trader
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import candles, instruments
from trading_pipelines.store.repositories.features import read_features

BASE = Timeframe.M5
SIGNAL = Timeframe.M15
TICK_AFTER = timedelta(seconds=30)


def one_price_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Turn bars of fifteen minutes into three bars of five with one price each: open, farther extreme, close."""
    opened, high, low, close = (bars[name].to_numpy(float) for name in ("open", "high", "low", "close"))
    prices = np.column_stack((opened, np.where(high - opened >= opened - low, high, low), close)).ravel()
    ts = bars["ts"].repeat(3).reset_index(drop=True) + pd.to_timedelta(np.tile([0, 5, 10], len(bars)), unit="min")
    columns = dict.fromkeys(("open", "high", "low", "close"), prices)
    return pd.DataFrame({"ts": ts, **columns, "volume": bars["volume"].repeat(3).to_numpy() / 3})


@dataclass
class Tape:
    """A market that has happened, told up to `clock`; `bars` are one-price bars of five minutes by symbol."""

    known: Sequence[Instrument]
    bars: Mapping[str, pd.DataFrame]
    rates: Mapping[str, pd.DataFrame]
    clock: datetime
    name: str = field(default="archive", init=False)

    @property
    def exchange(self) -> str:
        return self.known[0].exchange

    def now(self) -> datetime:
        return self.clock

    def instruments(self) -> list[Instrument]:
        return list(self.known)

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        return (BASE, *BASE.longer())

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        end = min(end, timeframe.floor(self.clock))
        if start < end:
            bars = _between(self.bars[instrument.symbol], start, end)
            yield CandlePage(start, end, bars if timeframe is BASE else aggregate(bars, timeframe))

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        return _between(self.rates[instrument.symbol], start, min(end, self.clock + timedelta(microseconds=1)))

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        found = list[Ticker]()
        for symbol in symbols:
            traded = BASE.floor(self.clock - TICK_AFTER)
            bars = self.bars[symbol]
            row = int(bars["ts"].searchsorted(pd.Timestamp(traded), side="right")) - 1
            if row >= 0:
                at = bars["ts"].iloc[row].to_pydatetime() + TICK_AFTER
                found.append(Ticker(symbol, at, float(bars["close"].iloc[row])))
        return found


def run_paper(
    connection: Connection,
    settings: Settings,
    tape: Tape,
    start: datetime,
    end: datetime,
    kill: KillSwitch,
    *,
    trails_late: bool = False,
) -> TradingSession:
    """Run the functions of the schedules and sensors bar by bar; the exchange lives through whole bars.

    What the fast service does, each once per bar, is done here without it. A driver that `trails_late` moves stops by
    the close before the last one: a mistake to be found.
    """
    session = _begun(connection, settings, start)
    ids = {s: row.instrument_id for s, row in instruments.by_symbol(connection, session.exchange).items()}
    exchange = PaperExchange(connection, session.session_id, session.execution)
    ts = start
    while ts < end:
        now = tape.clock = ts + SIGNAL.delta
        _update_market_data(connection, session, tape, ts, now)
        moved = market_events(connection, ids.values(), SIGNAL, ts, now)
        connection.commit()
        exchange.advance(moved)
        synchronise(connection, session, exchange, now)
        reconcile(connection, session, exchange, now, settings.trader)
        closed = _closes(connection, ids, ts - SIGNAL.delta if trails_late else ts)
        manage_at_close(connection, session, exchange, closed, now)
        emit_signals(connection, session, now)
        carry_out_exits(connection, session, exchange, now)
        quotes = {ids[ticker.symbol]: ticker.price for ticker in tape.tickers(session.symbols)}
        execute_signals(connection, session, exchange, now, quotes=quotes, kill=kill)
        expire_signals(connection, session, now)
        connection.commit()
        ts = now
    return session


def run_monitor(
    connection: Connection, settings: Settings, tape: Tape, start: datetime, end: datetime, kill: KillSwitch
) -> TradingSession:
    """Let the fast service tick over the tape, with the runs that the sensors would ask for in between."""
    tape.clock = start
    _begun(connection, settings, start)
    trader = Trader(connection, settings, tape, kill, start)
    (desk,) = trader.desks
    ts = start
    while ts < end:
        if SIGNAL.floor(ts) == ts and ts > start:
            _decide_after_close(connection, settings, tape, trader, ts, kill)
        now = tape.clock = ts + TICK_AFTER
        trader.tick(now)
        ts += BASE.delta
    _decide_after_close(connection, settings, tape, trader, end, kill)
    return desk.session


def _begun(connection: Connection, settings: Settings, start: datetime) -> TradingSession:
    """A live session begins with the bar that has closed last: here the first of the tape."""
    return paper_session(connection, settings, start + SIGNAL.delta)


def _decide_after_close(
    connection: Connection, settings: Settings, tape: Tape, trader: Trader, closed_at: datetime, kill: KillSwitch
) -> None:
    """Everything that happens between a close and the next trade of the market."""
    desk = trader.desks[0]
    session, opened = desk.session, closed_at - SIGNAL.delta

    def at(seconds: float) -> datetime:
        tape.clock = closed_at + timedelta(seconds=seconds)
        return tape.clock

    trader.tick(at(settings.trader.bar_delay_seconds + 1))
    _update_market_data(connection, session, tape, opened, at(6))
    emit_signals(connection, session, at(8))
    trader.tick(at(settings.trader.bar_delay_seconds + 12))
    quotes = {desk.ids[ticker.symbol]: ticker.price for ticker in tape.tickers(session.symbols)}
    execute_signals(connection, session, desk.exchange, at(18), quotes=quotes, kill=kill)
    expire_signals(connection, session, at(20))
    connection.commit()


def _update_market_data(
    connection: Connection, session: TradingSession, tape: Tape, ts: datetime, now: datetime
) -> None:
    """What the market-data job does after a close."""
    connection.commit()
    report = ingest(connection, tape, session.symbols, BASE, ts, now)
    assert not report.errors
    build_features(connection, session.exchange, session.symbols, session.timeframe, ts, ts + SIGNAL.delta)
    predict(connection, session.exchange, session.symbols, session.timeframe, ts, ts + SIGNAL.delta)
    score(connection, session.exchange, session.symbols, session.timeframe, now, ScoringSpec())


def _closes(connection: Connection, ids: Mapping[str, int], ts: datetime) -> dict[int, BarClose]:
    set_id, found = current_feature_set(connection), dict[int, BarClose]()
    for instrument_id in ids.values():
        end = ts + SIGNAL.delta
        bars = candles.read_candles(connection, instrument_id, SIGNAL, ts, end)
        values = read_features(connection, instrument_id, set_id, SIGNAL, len(registry.NAMES), ts, end).values
        if len(bars) and len(values):
            atr = float(values[0, registry.NAMES.index("atr_14")])
            found[instrument_id] = BarClose(ts, end, float(bars["close"].iloc[0]), atr)
    connection.commit()
    return found


def _between(frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    return frame[(frame["ts"] >= start) & (frame["ts"] < end)].reset_index(drop=True)
