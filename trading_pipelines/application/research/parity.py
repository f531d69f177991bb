"""Parity: what each driver did with the same tape, as records that can be compared.

Belongs here: reading the records of a stored session and of a backtest of the same rules. Does not belong here: the
comparison (`domain.parity`).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.application.features.strategy_inputs import from_microseconds, load_input
from trading_pipelines.application.signals.candidates import session_strategies
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.parity import DecisionRecord, FillRecord, Records, on_grid, significant
from trading_pipelines.domain.signals.gates import judge_history
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import Strategy
from trading_pipelines.domain.strategies.proposals import propose
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import candles, instruments, settlements
from trading_pipelines.store.repositories import parity as parity_store

_PASSED = "all gates passed"
_TICK = timedelta(microseconds=1)


def session_records(
    connection: psycopg.Connection[Any], session: TradingSession, start: datetime, end: datetime, grid: Timeframe
) -> Records:
    """What a stored session decided for the bars that open in [start, end), and the fills of that time.

    Parameters
    ----------
    grid : Timeframe
        Fills are dated by the bar of this timeframe in which they happened.
    """
    steps = _steps(connection, session)
    return Records.of(
        Timeframe(session.timeframe),
        parity_store.decisions(connection, session.session_id, start, end),
        (
            FillRecord(
                ts=grid.floor(fill.ts),
                symbol=fill.symbol,
                kind=fill.kind,
                side=fill.side,
                quantity=on_grid(fill.quantity, steps[fill.symbol].quantity_step),
                reference_price=on_grid(fill.reference_price, steps[fill.symbol].price_step),
            )
            for fill in parity_store.fills(connection, session.session_id, start, end)
        ),
    )


def backtest_records(
    connection: psycopg.Connection[Any], session: TradingSession, start: datetime, end: datetime, grid: Timeframe
) -> Records:
    """Backtest the one strategy of a session over the bars that open in [start, end), by the session's rules.

    Parameters
    ----------
    grid : Timeframe
        Timeframe of the bars on which fills are made.

    Raises
    ------
    UserError
        The session has several strategies: the backtest knows one at a time.
    """
    if len(session.strategies) != 1:
        raise UserError(f"session {session.name!r} has {len(session.strategies)} strategies, a backtest takes one")
    ((name, strategy),) = session_strategies(session).items()
    data = _load(connection, session, strategy, start, end, grid)
    result = run_backtest(
        data,
        strategy,
        session.execution,
        session.limits,
        float(session.start_capital),
        strategy.policy(session.policy),
        session.direction,
    )
    return Records.of(
        Timeframe(session.timeframe),
        _backtest_decisions(session, name, strategy, data, result),
        _backtest_fills(result, _steps(connection, session)),
    )


def _steps(connection: psycopg.Connection[Any], session: TradingSession) -> dict[str, Instrument]:
    stored = instruments.by_symbol(connection, session.exchange)
    return {symbol: row.instrument for symbol, row in stored.items()}


def _load(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    strategy: Strategy,
    start: datetime,
    end: datetime,
    grid: Timeframe,
) -> BacktestInput:
    stored, frame = instruments.by_symbol(connection, session.exchange), Timeframe(session.timeframe)
    ids = {symbol: stored[symbol].instrument_id for symbol in session.symbols}
    return BacktestInput.from_frames(
        {symbol: candles.read_candles(connection, i, frame, start, end) for symbol, i in ids.items()},
        frame,
        funding={
            s: settlements.read_settlements(connection, i, start - grid.delta + _TICK, end) for s, i in ids.items()
        },
        instruments={symbol: stored[symbol].instrument for symbol in ids},
        finer=None
        if grid is frame
        else (grid, {symbol: candles.read_candles(connection, i, grid, start, end) for symbol, i in ids.items()}),
        inputs={
            symbol: load_input(connection, i, symbol, frame, strategy.needs, start, end) for symbol, i in ids.items()
        },
    )


def _backtest_decisions(
    session: TradingSession, name: str, strategy: Strategy, data: BacktestInput, result: BacktestResult
) -> list[DecisionRecord]:
    length = Timeframe(session.timeframe).delta
    asked = result.candidates
    taken = {
        (symbol, decided_at.to_pydatetime() - length): quantity > 0
        for symbol, decided_at, quantity in zip(asked["symbol"], asked["decided_at"], asked["quantity"], strict=True)
    }
    records = list[DecisionRecord]()
    for seen in data.inputs:
        _, proposals = propose(strategy, seen)
        verdicts = judge_history(proposals, strategy.policy(session.policy), session.execution, session.direction)
        complete, side = verdicts.setups.complete.tolist(), np.sign(verdicts.setups.side).tolist()
        confidence, symbol = verdicts.setups.confidence.tolist(), seen.bars.symbol
        for i, closed_at in enumerate(proposals.closed_at.tolist()):
            refusal, ts = verdicts.refusal(i), from_microseconds(closed_at) - length
            records.append(
                DecisionRecord(
                    ts=ts,
                    symbol=symbol,
                    strategy=name,
                    outcome="SIGNAL" if refusal is None else "REJECTED",
                    side=("LONG" if side[i] > 0 else "SHORT") if complete[i] else None,
                    reason=refusal or _PASSED,
                    confidence=significant(confidence[i]) if complete[i] else None,
                    taken=bool(taken.get((symbol, ts), False)),
                )
            )
    return records


def _backtest_fills(result: BacktestResult, steps: Mapping[str, Instrument]) -> list[FillRecord]:
    fills = result.fills
    fills = fills[fills["kind"] != "FUNDING"]
    trade = fills["trade"].to_numpy()
    long = (result.trades["side"] == "LONG").to_numpy()[trade]
    buys = long == (fills["kind"] == "ENTRY").to_numpy()
    moments = pd.DatetimeIndex(fills["ts"]).to_pydatetime().tolist()
    columns = (fills[name].tolist() for name in ("symbol", "kind", "quantity", "reference_price"))
    return [
        FillRecord(
            ts=ts,
            symbol=symbol,
            kind=kind,
            side="BUY" if buy else "SELL",
            quantity=on_grid(quantity, steps[symbol].quantity_step),
            reference_price=on_grid(price, steps[symbol].price_step),
        )
        for ts, buy, symbol, kind, quantity, price in zip(moments, buys.tolist(), *columns, strict=True)
    ]
