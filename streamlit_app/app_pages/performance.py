"""What the session has earned: curve, risk, costs, and where it came from."""

import charts
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.performance import Account, PerformanceReport
from trading_pipelines.store.read_models.sessions import SessionSummary

layout.header("Performance", "Result after all costs, against holding bitcoin, with the risk that was taken for it.")


# Ratios are annualised from daily returns; over fewer days they mostly measure chance.
_MEANINGFUL_DAYS = 30


def _headline(session: SessionSummary, account: Account, report: PerformanceReport) -> list[Card]:
    total = account.equity / session.start_capital - 1
    cards = [
        Card("Equity, USDT", formats.number(account.equity), formats.percent(total), layout.by_sign(total)),
        Card("Realised, USDT", formats.money(account.realised_net), "after costs"),
        Card("Unrealised, USDT", formats.money(account.unrealised), f"{account.open_positions} open"),
        Card(
            "Costs, USDT",
            formats.number(account.fees + account.funding + account.slippage),
            f"fees {formats.number(account.fees)}",
            help=f"Fees {formats.number(account.fees)}, funding {formats.number(account.funding)}, "
            f"slippage {formats.number(account.slippage)} (contained in the prices)",
        ),
    ]
    if report.benchmark is not None:
        held = report.curve["benchmark"].iloc[-1] / session.start_capital - 1
        ahead = total - held
        cards.append(
            Card(
                f"Against {formats.literal(report.benchmark.removesuffix('USDT'))}",
                formats.percent(ahead),
                f"held: {formats.percent(held)}",
                layout.by_sign(ahead),
                help="Return of the session minus that of buying and holding from its first mark",
            )
        )
    return cards


def _ratios(report: PerformanceReport) -> list[Card]:
    figures = report.figures
    return [
        Card(
            "Drawdown",
            formats.share(-figures.max_drawdown),
            help="The largest, on marked equity, from its running maximum",
        ),
        Card("Exposure", formats.share(figures.exposure), help="Share of the time with at least one open position"),
        Card("Closed", formats.number(figures.trades, 0), help="Positions"),
        Card("Win rate", formats.share(figures.win_rate), help="Closed positions with a net profit"),
        Card("Profit factor", formats.ratio(figures.profit_factor), help="Gross wins over gross losses, after costs"),
        Card(
            "Average R",
            formats.number(figures.average_r, 2, sign=True),
            help="Mean net result in units of the risk taken at entry",
        ),
        Card("Sharpe", formats.ratio(figures.sharpe), help="Daily returns at 00:00 UTC, annualised with 365 days"),
        Card("Sortino", formats.ratio(figures.sortino), help="As Sharpe, against losing days only"),
        Card("Calmar", formats.ratio(figures.calmar), help="Annualised return over the largest drawdown"),
    ]


_GROUP_COLUMNS = (
    Column("trades", "Closed", lambda v: formats.number(v, 0)),
    Column("win_rate", "Win rate", formats.share),
    Column("net", "Net, USDT", formats.money, layout.by_sign),
    Column("average_r", "Average R", lambda v: formats.number(v, 2, sign=True), layout.by_sign),
    Column("fees", "Fees", formats.cost),
    Column("funding", "Funding", formats.cost),
    Column("slippage", "Slippage", formats.cost, help="Contained in the prices"),
)


def _group(frame: pd.DataFrame, column: Column, key: str) -> None:
    shown = frame.assign(win_rate=frame["wins"] / frame["trades"])
    layout.table(shown, (column, *_GROUP_COLUMNS), key, rows=12)


def _breakdown(report: PerformanceReport) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**By strategy**")
        _group(
            report.by_strategy, Column("strategy", "Strategy", formats.words, kind="text", pinned=True), "by_strategy"
        )
        st.markdown("**By symbol**")
        _group(report.by_symbol, Column("symbol", "Symbol", kind="text", pinned=True), "by_symbol")
    with right:
        st.markdown("**By reason of closing**")
        _group(
            report.by_close_reason,
            Column("close_reason", "Closed by", formats.words, kind="text", pinned=True),
            "by_reason",
        )
        st.markdown("**By direction**")
        _group(report.by_side, Column("side", "Side", formats.side, layout.by_side, kind="text"), "by_side")


def _export(session: SessionSummary, report: PerformanceReport) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Trades as CSV",
            report.trades.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ"),
            f"{session.name}-trades.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            disabled=report.trades.empty,
        )
        st.download_button(
            "Equity as CSV",
            report.curve.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ"),
            f"{session.name}-equity.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


@layout.live(15)
def _report(session: SessionSummary) -> None:
    account, report = queries.account(session.session_id), queries.performance_report(session.session_id)
    if account is None or report is None:
        layout.empty(
            "No performance yet",
            f"Equity is marked at the close of each {session.timeframe} bar; the first mark starts this page.",
        )
        return
    layout.cards(_headline(session, account, report) + _ratios(report), min_width=120)
    st.plotly_chart(
        charts.equity(report.curve, report.benchmark, session.start_capital), config=charts.STATIC_CONFIG, key="equity"
    )
    first, last = report.curve["ts"].iloc[0], report.curve["ts"].iloc[-1]
    text = f"Marked equity and drawdown, {formats.moment(first)} to {formats.moment_utc(last)}."
    if (last - first).days < _MEANINGFUL_DAYS:
        text += f" Sharpe, Sortino and Calmar are annualised: before {_MEANINGFUL_DAYS} days they say little."
    st.caption(text)
    if len(report.daily) > 1:
        st.markdown("**Result per day, USDT**")
        figure = charts.signed_bars(report.daily["day"], report.daily["pnl"], "USDT")
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="daily")
    if report.trades.empty:
        layout.empty(
            "No closed position yet", "Win rate, reasons and symbols are broken down once positions have closed."
        )
    else:
        _breakdown(report)
    _export(session, report)
    if session.fingerprint:
        st.caption(f"Fingerprint of this replay: `{session.fingerprint}`")


def _page() -> None:
    session = layout.session_or_empty()
    if session is not None:
        _report(session)


_page()
