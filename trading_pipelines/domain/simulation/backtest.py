"""Backtest: one account over many symbols, on the code that trades.

Belongs here: bringing candles, funding and a strategy's decisions onto one time grid, and reading the result of the
compiled loop (`domain.engine.kernel.run_portfolio`). Does not belong here: what happens to a position or how large it
becomes (the loop calls the same functions as the paper exchange and the order path), the figures of a result
(`domain.portfolio.performance`), loading and storing.

All times are UTC; in arrays they are microseconds since 1970.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.engine.lifecycle import EventKind, pack_execution
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.candles import CANDLE_COLUMNS
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.portfolio.performance import ClosedPositions, Performance, measure
from trading_pipelines.domain.risk.correlation import DAY, HOUR, correlations_by_day
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.rules import RULES
from trading_pipelines.domain.risk.sizing import SIZING_RULES, pack_limits
from trading_pipelines.domain.signals.gates import Proposals, judge_history
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy
from trading_pipelines.domain.strategies.base import Bars, Strategy, StrategyInput
from trading_pipelines.domain.strategies.proposals import propose

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]

REFUSALS = SIZING_RULES | RULES
"""Names of the rules that bound or refused a candidate, by their codes."""
EXIT_REASONS = {
    kernel.NOT_LEAVING: None,
    kernel.BY_SIGNAL: "signal",
    kernel.BY_DRAWDOWN: "drawdown",
    kernel.BY_TIME: "time_limit",
}
"""Why an exit was decided, by code; None where stop, targets or liquidation ended the trade."""

_MICROSECONDS_PER_MINUTE = 60_000_000
_NO_FUNDING = pd.DataFrame({"ts": pd.Series(dtype="datetime64[us, UTC]"), "rate": pd.Series(dtype="float64")})


@dataclass(frozen=True)
class BacktestInput:
    """The market of a backtest, without any strategy.

    Attributes
    ----------
    inputs : tuple of StrategyInput
        What strategies see, per symbol; after their warm-up come the bars of the signal timeframe that are traded.
    at : tuple of arrays or None
        For each of those bars the index on the grid at whose close it closes, -1 where no finer bar is inside it;
        None for a symbol whose bars are those of the grid.
    market : Market
        The bars on which fills are made, on the grid of their timeframe: the union of the times of all symbols.
    """

    symbols: tuple[str, ...]
    grid: Timeframe
    inputs: tuple[StrategyInput, ...]
    at: tuple[Integers | None, ...]
    market: kernel.Market
    _correlations: dict[tuple[int, int], Floats] = field(
        default_factory=dict[tuple[int, int], Floats], repr=False, compare=False
    )

    @property
    def bar_length(self) -> int:
        """Length of a bar of the grid in microseconds."""
        return self.grid.minutes * _MICROSECONDS_PER_MINUTE

    def correlated_market(self, limits: RiskLimits) -> kernel.Market:
        """The market with the correlations of its symbols, where the limits ask for them.

        They are made from the candles that strategies see, history included, or from the grid where those are longer
        than an hour; where both are, no correlation is known.
        """
        if limits.max_correlation is None or len(self.symbols) == 1:
            return self.market
        first, last = (int(ts) // DAY for ts in (self.market.open_time[0], self.market.open_time[-1] + self.bar_length))
        key = limits.correlation_days, limits.correlation_min_hours
        if key not in self._correlations:
            self._correlations[key] = correlations_by_day(self._hourly_candles(), first, last - first + 1, *key)
        return self.market._replace(correlation=self._correlations[key], correlation_day=first)

    def _hourly_candles(self) -> list[tuple[Integers, Floats]]:
        """Open times and closes of candles that are not longer than an hour."""
        if all(seen.timeframe.microseconds <= HOUR for seen in self.inputs):
            return [(seen.bars.ts, seen.bars.close) for seen in self.inputs]
        if self.bar_length <= HOUR:
            return [(self.market.open_time, close) for close in self.market.close]
        nothing = np.empty(0, np.int64), np.empty(0)
        return [nothing for _ in self.symbols]

    @classmethod
    def from_frames(
        cls,
        candles: Mapping[str, pd.DataFrame],
        timeframe: Timeframe,
        *,
        funding: Mapping[str, pd.DataFrame] | None = None,
        instruments: Mapping[str, Instrument] | None = None,
        finer: tuple[Timeframe, Mapping[str, pd.DataFrame]] | None = None,
        inputs: Mapping[str, StrategyInput] | None = None,
    ) -> "BacktestInput":
        """Bring candle frames by symbol onto one grid; equal confidence is ranked in the order of the symbols.

        Parameters
        ----------
        candles : mapping of candle frames
            Ascending, without duplicates, of the signal timeframe.
        funding : mapping of frames, optional
            Columns ts and rate, and mark where a mark price is stored; without it the bar's open stands in.
        instruments : mapping of Instrument, optional
            Steps and minimums; without one nothing is rounded or too small.
        finer : timeframe and candle frames, optional
            Fills are made on these bars; decisions stay on `candles`.
        inputs : mapping of StrategyInput, optional
            What strategies see beside `candles`: history to warm up with, longer timeframes, features, predictions.

        Raises
        ------
        ValueError
            If there are no candles, the finer frames are not of the same symbols and of a shorter timeframe, or the
            bars after the warm-up of `inputs` are not those of `candles`.
        """
        symbols = tuple(sorted(candles))
        grid, frames = (timeframe, candles) if finer is None else finer
        if not symbols or set(frames) != set(symbols) or any(frames[s].empty for s in symbols):
            raise ValueError("a backtest needs candles of every symbol, in the finer timeframe too")
        if finer is not None and timeframe not in grid.longer():
            raise ValueError(f"{grid} is not finer than {timeframe}")
        own = tuple(_bars(s, frames[s]) for s in symbols)
        ts = _union([b.ts for b in own])
        rows = [None if len(b) == len(ts) else np.searchsorted(ts, b.ts) for b in own]
        bars = own if finer is None else tuple(_bars(s, candles[s]) for s in symbols)
        seen = tuple(StrategyInput(b, timeframe) if inputs is None else _checked(inputs[b.symbol], b) for b in bars)
        at = tuple(_closing_bars(b.ts, timeframe, ts, grid) for b in bars)
        decides = np.zeros(len(ts), np.bool_)
        for indices in at:
            decides[slice(None) if indices is None else indices[indices >= 0]] = True
        opens, highs, lows, closes = _stack([[getattr(b, n) for b in own] for n in CANDLE_COLUMNS[1:5]], rows, len(ts))
        due = [(funding or {}).get(s, _NO_FUNDING) for s in symbols]
        market = kernel.Market(
            opens,
            highs,
            lows,
            closes,
            decides,
            ts,
            *_funding(due, own, ts, opens),
            venue=np.array([_venue((instruments or {}).get(s)) for s in symbols]),
        )
        return cls(symbols, grid, seen, at, market)


@dataclass(frozen=True)
class BacktestResult:
    """What came of a backtest.

    Attributes
    ----------
    equity : array of float
        Marked at each close of the signal timeframe, `equity_ts`.
    cash : float
        Equity without the unrealised result of what is still open at the end.
    gate_refusals : mapping
        How many proposals each gate was the first to refuse; they never became candidates.
    """

    symbols: tuple[str, ...]
    start_capital: float
    cash: float
    equity_ts: Integers
    equity: Floats
    gate_refusals: Mapping[str, int]
    _grid_ts: Integers
    _length: int
    _plan: kernel.Plan
    _accepted: Floats
    _rules: npt.NDArray[np.int8]
    _trades: Floats
    _fills: Floats

    @property
    def final_equity(self) -> float:
        """Marked equity at the end."""
        return float(self.equity[-1])

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row per position in the order of entry; `closed_at` is missing for those still open.

        `pnl` is the price result before fees and funding; `net` is after them. `opened_at` and `closed_at` are the open
        times of the bars of the fills. Quantity, margin and initial risk are sums over entry and additions, the entry
        price their average; the initial risk is the distance from the reference price to the first stop, in quote
        currency.
        """
        t = self._trades
        closed = t[:, kernel.T_CLOSED].astype(np.int64)
        candidate = t[:, kernel.T_CANDIDATE].astype(np.int64)
        rows = self._plan.rows[candidate]
        reference = rows[:, kernel.C_REFERENCE]
        net = t[:, kernel.T_PNL] - t[:, kernel.T_FEES] - t[:, kernel.T_FUNDING]
        risk = t[:, kernel.T_RISK]
        closed_at = np.where(closed < 0, np.iinfo(np.int64).min, self._grid_ts[closed])
        return pd.DataFrame(
            {
                "symbol": _names(self.symbols, t[:, kernel.T_SYMBOL]),
                "side": _names(("SHORT", "LONG"), rows[:, kernel.C_SIDE] > 0),
                "decided_at": _times(self._grid_ts[self._plan.bar[candidate]] + self._length),
                "opened_at": _times(self._grid_ts[t[:, kernel.T_OPENED].astype(np.int64)]),
                "closed_at": _times(closed_at),
                "quantity": t[:, kernel.T_QUANTITY],
                "reference_price": reference,
                "entry_price": t[:, kernel.T_ENTRY],
                "entry_margin": t[:, kernel.T_MARGIN],
                "stop_price": t[:, kernel.T_STOP],
                "confidence": rows[:, kernel.C_CONFIDENCE],
                "size_rule": _codes(SIZING_RULES, self._rules[candidate]),
                "pnl": t[:, kernel.T_PNL],
                "fees": t[:, kernel.T_FEES],
                "funding": t[:, kernel.T_FUNDING],
                "slippage": t[:, kernel.T_SLIPPAGE],
                "net": net,
                "additions": t[:, kernel.T_ADDITIONS].astype(np.int64),
                "initial_risk": risk,
                "r": net / np.where(risk > 0, risk, np.nan),
                "closed_by": _codes({k.value: k.name for k in EventKind}, t[:, kernel.T_LAST_KIND], closed >= 0),
                "exit_reason": _codes(EXIT_REASONS, t[:, kernel.T_EXIT_REASON]),
            }
        )

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Every fill and funding payment in the order in which they happened; `trade` is the row of `trades`."""
        f = self._fills
        event = f[:, kernel.F_EVENT :]
        trade = f[:, kernel.F_TRADE].astype(np.int64)
        return pd.DataFrame(
            {
                "trade": trade,
                "symbol": _names(self.symbols, self._trades[trade, kernel.T_SYMBOL]),
                "ts": _times(self._grid_ts[f[:, kernel.F_BAR].astype(np.int64)]),
                "kind": _codes({k.value: k.name for k in EventKind}, event[:, kernel.E_KIND]),
                "quantity": event[:, kernel.E_QUANTITY],
                "reference_price": event[:, kernel.E_REFERENCE],
                "price": event[:, kernel.E_PRICE],
                "fee": event[:, kernel.E_FEE],
                "pnl": event[:, kernel.E_PNL],
            }
        )

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """One row per set-up in the order in which they were asked; `quantity` is 0 where `rule` refused it."""
        rows = self._plan.rows
        return pd.DataFrame(
            {
                "symbol": _names(self.symbols, self._plan.symbol),
                "side": _names(("SHORT", "LONG"), rows[:, kernel.C_SIDE] > 0),
                "decided_at": _times(self._grid_ts[self._plan.bar] + self._length),
                "confidence": rows[:, kernel.C_CONFIDENCE],
                "quantity": self._accepted,
                "rule": _codes(REFUSALS, self._rules),
            }
        )

    @property
    def equity_curve(self) -> pd.Series:
        """Marked equity by the time of the close."""
        return pd.Series(self.equity, index=_times(self.equity_ts), name="equity")

    @property
    def refusals(self) -> dict[str, int]:
        """How many candidates each rule refused."""
        counts = np.bincount(self._rules[self._accepted == 0])
        return {REFUSALS[code]: int(n) for code, n in enumerate(counts) if n}

    @cached_property
    def performance(self) -> Performance:
        """The figures of this result; positions still open count in the equity only."""
        t = self._trades[self._trades[:, kernel.T_CLOSED] >= 0]
        closed = ClosedPositions(
            opened_at=self._grid_ts[t[:, kernel.T_OPENED].astype(np.int64)],
            closed_at=self._grid_ts[t[:, kernel.T_CLOSED].astype(np.int64)],
            realised_pnl=t[:, kernel.T_PNL],
            fees=t[:, kernel.T_FEES],
            funding=t[:, kernel.T_FUNDING],
            slippage=t[:, kernel.T_SLIPPAGE],
            initial_risk=t[:, kernel.T_RISK],
        )
        return measure(_times(self.equity_ts), self.equity, closed, self.start_capital)


def run_backtest(
    data: BacktestInput,
    strategy: Strategy,
    execution: ExecutionParams,
    limits: RiskLimits,
    start_capital: float = 10_000.0,
    policy: SignalPolicy | None = None,
    direction: Direction = Direction.BOTH,
) -> BacktestResult:
    """Let a strategy trade over the whole input.

    Parameters
    ----------
    policy : SignalPolicy, optional
        The gates that a proposal passes before it becomes a candidate, cooldown included; none without one.
    """
    market = data.correlated_market(limits)
    plan, refused = _plan(data, strategy, execution, policy, direction)
    state = kernel.new_state(market, plan, start_capital)
    kernel.run_portfolio(market, plan, state, data.bar_length, pack_execution(execution), pack_limits(limits))
    return BacktestResult(
        symbols=data.symbols,
        start_capital=start_capital,
        cash=float(state.account[kernel.CASH]),
        equity_ts=market.open_time[market.decides] + data.bar_length,
        equity=state.equity[market.decides],
        gate_refusals=refused,
        _grid_ts=market.open_time,
        _length=data.bar_length,
        _plan=plan,
        _accepted=state.accepted,
        _rules=state.rule,
        _trades=state.trades[: state.counts[kernel.N_TRADES]],
        _fills=state.fills[: state.counts[kernel.N_FILLS]],
    )


def make_plan(
    data: BacktestInput,
    strategy: Strategy,
    execution: ExecutionParams,
    policy: SignalPolicy | None = None,
    direction: Direction = Direction.BOTH,
) -> kernel.Plan:
    """Ask the strategy symbol by symbol and put its answers on the grid, at the closes at which it decided.

    An entry without an ATR or a confidence cannot be sized and is no candidate, nor is one that a gate of `policy`
    refuses. The candidates of one close are in the order of descending confidence, then of the symbols.
    """
    return _plan(data, strategy, execution, policy, direction)[0]


def _plan(
    data: BacktestInput,
    strategy: Strategy,
    execution: ExecutionParams,
    policy: SignalPolicy | None,
    direction: Direction,
) -> tuple[kernel.Plan, Mapping[str, int]]:
    """The plan, and how many proposals each gate refused on the way to it."""
    shape = data.market.close.shape
    refused = Counter[str]()
    atr, exits = np.empty(shape), np.zeros(shape, np.uint8)
    bars, symbols, rows = list[Integers](), list[Integers](), list[Floats]()
    for s, (seen, at) in enumerate(zip(data.inputs, data.at, strict=True)):
        told, proposals = propose(strategy, seen)
        i, counts = _candidates(proposals, execution, policy, direction)
        refused.update(counts)
        if at is None:
            atr[s], exits[s] = told.atr, told.exit
            bars.append(i)
        else:
            known = at >= 0
            atr[s] = np.nan
            atr[s, at[known]], exits[s, at[known]] = told.atr[known], told.exit[known]
            i = i[known[i]]
            bars.append(at[i])
        symbols.append(np.full(len(i), s))
        side = told.entry[i].astype(np.float64)
        rows.append(np.column_stack((side, told.confidence[i], proposals.reference_price[i], told.atr[i])))
    bar, symbol, row = np.concatenate(bars), np.concatenate(symbols), np.concatenate(rows)
    order = np.lexsort((symbol, -row[:, kernel.C_CONFIDENCE], bar))
    return kernel.Plan(atr, exits, bar[order], symbol[order], row[order]), dict(refused.most_common())


def _candidates(
    proposals: Proposals, execution: ExecutionParams, policy: SignalPolicy | None, direction: Direction
) -> tuple[Integers, Mapping[str, int]]:
    """Positions of the proposals that may be sized, and how many each gate refused."""
    if policy is not None:
        verdicts = judge_history(proposals, policy, execution, direction)
        refused = verdicts.refusals()
        refused.pop("proposal", None)  # nothing was proposed
        return np.flatnonzero(verdicts.passed), refused
    wanted = {Direction.LONG: proposals.side > 0, Direction.SHORT: proposals.side < 0}.get(direction, proposals.side)
    i = np.flatnonzero(wanted)
    return i[(proposals.atr[i] > 0) & np.isfinite(proposals.confidence[i])], {}


def _checked(seen: StrategyInput, traded: Bars) -> StrategyInput:
    if not np.array_equal(seen.bars.ts[seen.warm_up :], traded.ts):
        raise ValueError(f"{traded.symbol}: the strategy would not see the bars that are traded")
    return seen


def _bars(symbol: str, frame: pd.DataFrame) -> Bars:
    """The columns of a candle frame as arrays; prices are views, not copies, where pandas allows it."""
    values: list[Floats] = [frame[column].to_numpy(np.float64) for column in CANDLE_COLUMNS[1:]]
    return Bars(symbol, _microseconds(frame["ts"]), *values)


def _microseconds(ts: Any) -> Integers:
    index = pd.DatetimeIndex(ts)
    return (index if index.unit == "us" else index.as_unit("us")).asi8


def _union(times: Sequence[Integers]) -> Integers:
    """All times, ascending; symbols that share one grid, as on one exchange, are told at a glance."""
    first = times[0]
    if all(np.array_equal(first, other) for other in times[1:]):
        return first
    return np.unique(np.concatenate(times))


def _stack(prices: Sequence[Sequence[Floats]], rows: Sequence[Integers | None], bars: int) -> Floats:
    """Prices by kind, symbol and bar, in one piece of memory: the system hands out a large one in larger pages."""
    stacked = np.empty((len(prices), len(rows), bars))
    for kind, columns in zip(stacked, prices, strict=True):
        for target, values, at in zip(kind, columns, rows, strict=True):
            if at is None:
                target[:] = values
            else:
                target[:] = np.nan
                target[at] = values
    return stacked


def _closing_bars(decided: Integers, timeframe: Timeframe, ts: Integers, grid: Timeframe) -> Integers | None:
    """Index on the grid of the last bar that is closed when each bar of the signal timeframe closes."""
    if len(decided) == len(ts) and timeframe is grid:
        return None
    length = (timeframe.minutes - grid.minutes) * _MICROSECONDS_PER_MINUTE
    last = np.searchsorted(ts, decided + length, side="right") - 1
    return np.where(ts[last] >= decided, last, -1)


def _funding(
    due: Sequence[pd.DataFrame], own: Sequence[Bars], ts: Integers, opens: Floats
) -> tuple[Integers, Integers, Floats]:
    """Assign each settlement to the first bar of its symbol that opens at or after it; the fields of `Market`."""
    start, bars, prices = [0], [np.empty(0, np.int64)], [np.empty(0)]
    for s, (frame, bars_of) in enumerate(zip(due, own, strict=True)):
        ordered = frame if frame["ts"].is_monotonic_increasing else frame.sort_values("ts")
        at = np.searchsorted(bars_of.ts, _microseconds(ordered["ts"]), side="left")
        known = at < len(bars_of)
        index = at[known] if len(bars_of) == len(ts) else np.searchsorted(ts, bars_of.ts[at[known]])
        mark = ordered["mark"].to_numpy(np.float64)[known] if "mark" in ordered else np.full(len(index), np.nan)
        mark = np.where(np.isnan(mark), opens[s, index], mark)
        bars.append(index)
        prices.append(ordered["rate"].to_numpy(np.float64)[known] * mark)
        start.append(start[-1] + len(index))
    return np.array(start), np.concatenate(bars), np.concatenate(prices)


def _venue(instrument: Instrument | None) -> tuple[float, float, float, float]:
    if instrument is None:
        return 0.0, 0.0, 0.0, 0.0
    steps = instrument.quantity_step, instrument.min_quantity, instrument.min_notional, instrument.price_step
    quantity, smallest, notional, price = (float(step) for step in steps)
    return quantity, smallest, notional, price


def _times(microseconds: Integers) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.view("datetime64[us]")).tz_localize("UTC")


def _names(names: Sequence[str], codes: npt.NDArray[np.generic]) -> Any:
    """Names by their position, as a categorical column; -1 is missing."""
    return pd.Categorical.from_codes(codes.astype(np.int32), dtype=_categories(tuple(names)))


@lru_cache
def _categories(names: tuple[str, ...]) -> pd.CategoricalDtype:
    """Kept, because pandas takes longer to look at a few names than at ten thousand codes."""
    return pd.CategoricalDtype(list(names))


def _codes(
    names: Mapping[int, str | None], codes: npt.NDArray[np.generic], where: npt.NDArray[np.bool_] | None = None
) -> Any:
    """Names by code; missing where the code has none, and where `where` is false."""
    known = [(code, name) for code, name in names.items() if name is not None]
    position = np.full(max(names) + 1, -1, np.int8)
    position[[code for code, _ in known]] = np.arange(len(known))
    found = position[codes.astype(np.int8)]
    return _names([name for _, name in known], found if where is None else np.where(where, found, -1))
