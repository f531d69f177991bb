"""How the account of a session stands and what it has earned."""

from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.portfolio.performance import ClosedPosition, Performance, measure
from trading_pipelines.store.connection import read_frame

_POINTS = 1_500
"""Points of a curve: more than a screen has columns."""


@dataclass(frozen=True)
class Account:
    """The account as of the newest fill and mark, in quote currency.

    Attributes
    ----------
    equity : float
        Start capital plus the net result of all positions, open ones at their mark.
    day_start_equity : float
        Equity marked at 00:00 UTC of the session's day, the start capital before the first day is over.
    """

    start_capital: float
    equity: float
    day_start_equity: float
    unrealised: float
    realised_net: float
    margin: float
    open_positions: int
    closed_positions: int
    fees: float
    funding: float
    slippage: float

    @property
    def today(self) -> float:
        """Change of equity since 00:00 UTC."""
        return self.equity - self.day_start_equity


_ACCOUNT = """
select s.start_capital::float8 as start_capital,
       (s.start_capital + p.net)::float8 as equity,
       coalesce((
           select e.equity from equity e
           where e.session_id = s.session_id
             and e.ts <= date_trunc('day', coalesce(s.clock, now()) at time zone 'UTC') at time zone 'UTC'
           order by e.ts desc limit 1), s.start_capital::float8) as day_start_equity,
       p.unrealised::float8 as unrealised, (p.net - p.unrealised)::float8 as realised_net,
       p.margin::float8 as margin, p.open_positions, p.closed_positions,
       p.fees::float8 as fees, p.funding::float8 as funding, p.slippage::float8 as slippage
from sessions s
cross join lateral (
    select coalesce(sum(realised_pnl + unrealised_pnl - fees - funding), 0) as net,
           coalesce(sum(unrealised_pnl) filter (where status = 'OPEN'), 0) as unrealised,
           coalesce(sum(entry_margin * quantity_open / quantity_initial), 0) as margin,
           count(*) filter (where status = 'OPEN') as open_positions,
           count(*) filter (where status = 'CLOSED') as closed_positions,
           coalesce(sum(fees), 0) as fees, coalesce(sum(funding), 0) as funding, coalesce(sum(slippage), 0) as slippage
    from positions where session_id = s.session_id
) p
where s.session_id = %s
"""


def account(connection: psycopg.Connection[Any], session_id: UUID) -> Account | None:
    """The account of a session, None when there is no such session."""
    with connection.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(_ACCOUNT, (session_id,)).fetchone()


_MARKS = "select ts, equity from equity where session_id = %(session)s order by ts"

_TRADES = """
select i.symbol, p.side, p.quantity_initial::float8 as quantity, p.entry_price::float8 as entry_price,
       p.realised_pnl::float8 as realised_pnl, p.fees::float8 as fees, p.funding::float8 as funding,
       p.slippage::float8 as slippage, (p.realised_pnl - p.fees - p.funding)::float8 as net,
       r.initial_risk as risk, coalesce(g.strategy, 'unknown') as strategy,
       p.close_reason, p.opened_at, p.closed_at
from positions p
join instruments i using (instrument_id)
join position_risk r using (position_id)
left join signals g on g.signal_id = p.signal_id
where p.session_id = %(session)s and p.status = 'CLOSED'
order by p.closed_at, i.symbol
"""

_BENCHMARK = """
select i.symbol, c.available_at as ts, c.close
from instruments i
join ohlcv_1h c using (instrument_id)
where i.instrument_id = (
        select instrument_id from instruments
        where exchange = %(exchange)s and base = 'BTC' order by symbol = 'BTCUSDT' desc, symbol limit 1)
  and c.available_at > %(start)s::timestamptz - interval '2 days' and c.available_at <= %(end)s
  and c.ts > %(start)s::timestamptz - interval '3 days' and c.ts <= %(end)s
order by c.ts
"""


@dataclass(frozen=True)
class PerformanceReport:
    """What a session has earned, in quote currency and fractions.

    Attributes
    ----------
    figures : Performance
        Ratios and sums over closed positions and marked equity.
    curve : DataFrame
        ts, equity, drawdown (fraction, at most 0) and benchmark (the start capital held in the benchmark), thinned to
        1500 rows; a row keeps the deepest drawdown of the marks it stands for.
    benchmark : str or None
        Symbol that was held for comparison, None where its candles are missing.
    daily : DataFrame
        day and pnl: change of marked equity from 00:00 to 00:00 UTC.
    trades : DataFrame
        Closed positions, the first closed first; `r` is the net result over the initial risk.
    by_strategy, by_symbol, by_side, by_close_reason : DataFrame
        trades, wins, net, fees, funding, slippage and average_r per group, the best first.
    """

    figures: Performance
    curve: pd.DataFrame
    benchmark: str | None
    daily: pd.DataFrame
    trades: pd.DataFrame
    by_strategy: pd.DataFrame
    by_symbol: pd.DataFrame
    by_side: pd.DataFrame
    by_close_reason: pd.DataFrame


def performance_report(connection: psycopg.Connection[Any], session_id: UUID) -> PerformanceReport | None:
    """The report of a session, None before its first equity mark."""
    row = connection.execute(
        "select exchange, start_capital::float8 from sessions where session_id = %s", (session_id,)
    ).fetchone()
    marks = read_frame(connection, _MARKS, {"session": session_id})
    if row is None or marks.empty:
        return None
    exchange, start_capital = row
    trades = read_frame(connection, _TRADES, {"session": session_id})
    trades["r"] = trades["net"] / trades["risk"].where(trades["risk"] > 0)
    curve, benchmark = _with_benchmark(connection, _curve(marks, start_capital), exchange, start_capital)
    return PerformanceReport(
        figures=measure(pd.DatetimeIndex(marks["ts"]), marks["equity"].to_numpy(), _closed(trades), start_capital),
        curve=curve,
        benchmark=benchmark,
        daily=_daily(marks, start_capital),
        trades=trades,
        by_strategy=_grouped(trades, "strategy"),
        by_symbol=_grouped(trades, "symbol"),
        by_side=_grouped(trades, "side"),
        by_close_reason=_grouped(trades, "close_reason"),
    )


def _closed(trades: pd.DataFrame) -> list[ClosedPosition]:
    return [
        ClosedPosition(
            opened_at=trade["opened_at"],
            closed_at=trade["closed_at"],
            realised_pnl=trade["realised_pnl"],
            fees=trade["fees"],
            funding=trade["funding"],
            slippage=trade["slippage"],
            initial_risk=trade["risk"],
        )
        for trade in trades.to_dict("records")
    ]


def _curve(marks: pd.DataFrame, start_capital: float) -> pd.DataFrame:
    drawdown = marks["equity"] / marks["equity"].cummax().clip(lower=start_capital) - 1
    bucket = pd.Series(range(len(marks))) * _POINTS // max(len(marks), _POINTS)
    return (
        marks.assign(drawdown=drawdown)
        .groupby(bucket)
        .agg({"ts": "last", "equity": "last", "drawdown": "min"})
        .reset_index(drop=True)
    )


def _with_benchmark(
    connection: psycopg.Connection[Any], curve: pd.DataFrame, exchange: str, start_capital: float
) -> tuple[pd.DataFrame, str | None]:
    parameters = {"exchange": exchange, "start": curve["ts"].iloc[0], "end": curve["ts"].iloc[-1]}
    closes = read_frame(connection, _BENCHMARK, parameters)
    if closes.empty:
        return curve.assign(benchmark=float("nan")), None
    joined = pd.merge_asof(curve, closes, on="ts")
    held = joined["close"].bfill()
    return curve.assign(benchmark=start_capital * held / held.iloc[0]), str(closes["symbol"].iloc[0])


def _daily(marks: pd.DataFrame, start_capital: float) -> pd.DataFrame:
    """The mark at 00:00 ends the day before it."""
    days = (marks["ts"] - pd.Timedelta(microseconds=1)).dt.floor("D").rename("day")
    # The stubs lose the type of a column that is grouped by another series.
    ends = cast("pd.Series[float]", cast(Any, marks["equity"]).groupby(days).last())
    return pd.DataFrame({"pnl": ends - ends.shift(fill_value=start_capital)}).reset_index()


def _grouped(trades: pd.DataFrame, by: str) -> pd.DataFrame:
    grouped = trades.assign(win=trades["net"] > 0).groupby(by)
    sums = grouped.agg(
        trades=("net", "size"),
        wins=("win", "sum"),
        net=("net", "sum"),
        fees=("fees", "sum"),
        funding=("funding", "sum"),
        slippage=("slippage", "sum"),
        average_r=("r", "mean"),
    )
    return sums.sort_values("net", ascending=False).reset_index()
