"""Candles of one symbol with the session's signals, fills and levels on them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import charts
import formats
import layout
import pandas as pd
import queries
import streamlit as st

from trading_pipelines.store.read_models.chart import TIMEFRAMES, bars_between
from trading_pipelines.store.read_models.sessions import SessionSummary

SPANS = {
    "1 D": timedelta(days=1),
    "3 D": timedelta(days=3),
    "7 D": timedelta(days=7),
    "30 D": timedelta(days=30),
    "90 D": timedelta(days=90),
    "1 Y": timedelta(days=365),
}
EMA_SPANS = (20, 80, 200)
AVERAGES = tuple(f"EMA {span}" for span in EMA_SPANS)
INDICATORS = ("Bollinger", "VWAP", "RSI", "MACD")
# Candles that a browser pans smoothly; a longer span is shown on the next longer timeframe.
MAX_BARS = 3_000
NO_LEVELS, POSITION_LEVELS = "none", "position"

layout.header(
    "Chart", "Candles with signals, fills and the levels of a position or signal. Drag to pan, scroll to zoom."
)


@dataclass(frozen=True)
class View:
    """What the reader chose to see: one symbol of one exchange, `span` long, up to `end`."""

    exchange: str
    symbol: str
    timeframe: str
    span: timedelta
    end: datetime


@dataclass(frozen=True)
class Marks:
    """What the session did on the visible candles."""

    signals: pd.DataFrame
    fills: pd.DataFrame
    position: pd.Series | None


def _choose_view(session: SessionSummary | None, exchange: str) -> View | None:
    """Draw the first row of controls; None where the chosen symbol has no candles."""
    preferred = session.timeframe if session else "15m"
    symbols = queries.list_symbols(exchange)
    first = next((number for number, name in enumerate(symbols) if name.startswith("BTC")), 0)
    symbol = st.selectbox("Symbol", symbols, index=first, key="chart_symbol", width=150, bind="query-params")
    stored = queries.candle_span(exchange, symbol)
    if not stored:
        return None
    timeframe = st.segmented_control(
        "Timeframe",
        list(stored),
        default=preferred if preferred in stored else next(iter(stored)),
        required=True,
        key="chart_timeframe",
    )
    span = st.segmented_control("Range", list(SPANS), default="7 D", required=True, key="chart_span")
    first, last = stored[timeframe]
    until = st.date_input(
        "Until",
        value=None,
        min_value=first.date(),
        max_value=last.date(),
        format="YYYY-MM-DD",
        width=150,
        key="chart_until",
        help="Last day to show, UTC. Empty: up to the newest candle, in a replay up to its end",
    )
    end = last + timedelta(microseconds=1)
    if session is not None and session.clock is not None:
        end = min(end, session.clock)
    if until is not None:
        end = min(end, datetime.combine(until, datetime.min.time(), end.tzinfo) + timedelta(days=1))
    return View(exchange, symbol, _fitting(timeframe, list(stored), SPANS[span], end), SPANS[span], end)


def _fitting(timeframe: str, stored: list[str], span: timedelta, end: datetime) -> str:
    """The chosen timeframe, or the next longer stored one of which the span fits on the chart."""
    candidates = [t for t in stored if TIMEFRAMES.index(t) >= TIMEFRAMES.index(timeframe)]
    return next((t for t in candidates if bars_between(t, end - span, end) <= MAX_BARS), candidates[-1])


def _marks(session: SessionSummary | None, view: View, start: datetime, end: datetime) -> Marks:
    if session is None or session.exchange != view.exchange:
        nothing = pd.DataFrame(columns=["signal_id", "created_at", "side", "kind", "status"])
        return Marks(nothing, nothing, None)
    positions = queries.open_positions(session.session_id)
    own = positions[positions["symbol"] == view.symbol]
    return Marks(
        queries.signal_marks(session.session_id, view.exchange, view.symbol, start, end),
        queries.fill_marks(session.session_id, view.exchange, view.symbol, start, end),
        None if own.empty else own.iloc[0],
    )


def _default_levels(marks: Marks) -> str:
    """The open position, else a signal that still waits, else nothing."""
    if marks.position is not None:
        return POSITION_LEVELS
    waiting = marks.signals[marks.signals["status"] == "ACTIVE"]["signal_id"]
    return waiting.iloc[-1] if len(waiting) else NO_LEVELS


def _choose_levels(marks: Marks) -> str:
    """Offer the open position first, then the visible signals, newest first."""
    choices = {POSITION_LEVELS: "Open position"} if marks.position is not None else {}
    for row in marks.signals.iloc[::-1].itertuples():
        choices[row.signal_id] = (
            f"{formats.side(row.side)} {formats.moment(row.created_at)} · {formats.words(row.status)}"
        )
    choices[NO_LEVELS] = "Nothing"
    wanted = st.session_state.pop("chart_signal", None) or st.session_state.get("chart_levels")
    st.session_state["chart_levels"] = wanted if wanted in choices else _default_levels(marks)
    return st.selectbox("Levels of", list(choices), format_func=choices.__getitem__, key="chart_levels", width=290)


def _levels(source: str, marks: Marks) -> tuple[list[tuple[str, float, str]], datetime | None]:
    """Lines to draw as (name, price, role), and where they begin."""
    if source == POSITION_LEVELS and marks.position is not None:
        position = marks.position
        waiting = [n for n in (1, 2, 3) if f"TP{n}" not in position["targets_filled"].split()]
        lines = [("Entry", position["entry_price"], "entry"), ("Stop", position["stop_price"], "stop")]
        lines += [("Liq.", position["liquidation_price"], "liquidation")]
        lines += [(f"TP{n}", position[f"tp{n}_price"], "target") for n in waiting]
        return [line for line in lines if not formats.missing(line[1])], position["opened_at"]
    chosen = marks.signals[marks.signals["signal_id"] == source]
    if chosen.empty:
        return [], None
    signal = chosen.iloc[0]
    lines = [("Entry", signal["entry_price"], "entry"), ("Stop", signal["stop_price"], "stop")]
    return lines + [(f"TP{n}", signal[f"tp{n}_price"], "target") for n in (1, 2, 3)], signal["created_at"]


# The browser keeps zoom and position as long as the figure is the same; so nothing on it moves between two bars.
@layout.live(10)
def _chart(session: SessionSummary | None, exchange: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        view = _choose_view(session, exchange)
    if view is None:
        layout.empty(
            "No candles of this symbol yet",
            "They appear as soon as the first fill has reached it; Data status shows the progress.",
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        shown = st.pills(
            "Show",
            [*AVERAGES, *INDICATORS, "Volume", "Signals", "Fills"],
            selection_mode="multi",
            default=["EMA 20", "EMA 80", "Volume", "Signals", "Fills"],
            key="chart_shown",
            wrap=True,
        )
        ema_spans = tuple(n for n in EMA_SPANS if f"EMA {n}" in shown)
        bars = queries.candles(
            exchange,
            view.symbol,
            view.timeframe,
            view.end - view.span,
            view.end,
            ema_spans,
            not set(INDICATORS).isdisjoint(shown),
        )
        start = bars["ts"].iloc[0] if len(bars) else view.end - view.span
        marks = _marks(
            session,
            view,
            start,
            max(view.end, queries.utc_now()) if session is None or session.clock is None else view.end,
        )
        source = _choose_levels(marks)
    if bars.empty:
        layout.empty("No candles in this range", "Choose a longer range, another day or another timeframe.")
        return
    _draw(view, bars, marks, source, shown)


def _draw(view: View, bars: pd.DataFrame, marks: Marks, source: str, shown: list[str]) -> None:
    figure = charts.candles(
        bars,
        ema_spans=tuple(n for n in EMA_SPANS if f"EMA {n}" in shown),
        with_volume="Volume" in shown,
        indicators=[name for name in INDICATORS if name in shown],
    )
    if "Signals" in shown:
        charts.add_signals(figure, marks.signals, bars)
    if "Fills" in shown:
        charts.add_fills(figure, marks.fills)
    lines, since = _levels(source, marks)
    if since is not None:
        charts.add_levels(figure, lines, max(since, bars["ts"].iloc[0]))
    st.plotly_chart(figure, config=charts.CONFIG, key="candles")
    text = (
        f"{len(bars):,} bars of {view.timeframe}, {formats.moment(bars['ts'].iloc[0])} to "
        f"{formats.moment_utc(bars['ts'].iloc[-1])}; a bar stands at its opening time, UTC."
    )
    if view.timeframe != st.session_state.get("chart_timeframe"):
        text += " The range holds too many bars of the chosen timeframe; a shorter range shows them."
    st.caption(text)


def _page() -> None:
    session = layout.current_session()
    exchanges = [e.exchange for e in queries.list_exchanges()]
    if not exchanges:
        layout.empty(
            "No market data yet",
            "The chart fills as soon as candles are stored: `trading up` does so by itself, `trading ingest` by hand.",
        )
        return
    _chart(session, session.exchange if session and session.exchange in exchanges else exchanges[0])


_page()
