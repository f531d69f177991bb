"""A session bar by bar: step through what it saw, decided, ordered and held."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import charts
import decisions
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.chart import bars_between
from trading_pipelines.store.read_models.replay import EMA_SPANS, SessionBar
from trading_pipelines.store.read_models.sessions import SessionSummary

SPANS = {"1 D": timedelta(days=1), "3 D": timedelta(days=3), "7 D": timedelta(days=7)}
# As many steps as a slider can be moved by hand.
MAX_BARS = 700

layout.header("Replay", "Step through a session bar by bar: what it saw, what it decided and what came of it.")


def _choose(session: SessionSummary) -> tuple[str, datetime, datetime] | None:
    """Symbol and span; None where the symbol has no candles."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        symbol = st.selectbox("Symbol", session.symbols, key="replay_symbol", width=150, bind="query-params")
        stored = queries.candle_span(session.exchange, symbol)
        if session.timeframe not in stored:
            return None
        first, last = stored[session.timeframe]
        reached = min(last + timedelta(microseconds=1), layout.as_of(session))
        until = st.date_input(
            "Until",
            value=None,
            min_value=first.date(),
            max_value=max(first, reached).date(),
            format="YYYY-MM-DD",
            width=150,
            key="replay_until",
            help="Last day to step through, UTC. Empty: as far as the session has come",
        )
        fitting = [
            n for n, length in SPANS.items() if bars_between(session.timeframe, first, first + length) <= MAX_BARS
        ]
        span = st.segmented_control("Range", fitting, default=fitting[0], required=True, key="replay_span")
    end = reached
    if until is not None:
        end = min(end, datetime.combine(until, datetime.min.time(), end.tzinfo) + timedelta(days=1))
    return symbol, end - SPANS[span], end


def _next(bars: Sequence[SessionBar], at: int, step: int, *, eventful: bool) -> int:
    """The bar `step` on, or in that direction the next one at which something happened."""
    found = at + step
    while eventful and 0 <= found < len(bars) and not bars[found].is_eventful:
        found += step
    return found if 0 <= found < len(bars) else at


def _move(bars: Sequence[SessionBar], at: int, step: int, *, eventful: bool) -> None:
    st.session_state["replay_bar"] = bars[_next(bars, at, step, eventful=eventful)].ts


def _stepper(bars: Sequence[SessionBar]) -> int:
    """Slider and buttons; the number of the chosen bar."""
    moments = [bar.ts for bar in bars]
    if st.session_state.get("replay_bar") not in moments:
        events = [bar.ts for bar in bars if bar.is_eventful]
        st.session_state["replay_bar"] = events[-1] if events else moments[-1]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        place = st.empty()
        chosen = (
            st.select_slider("Bar", moments, format_func=formats.moment, key="replay_bar") if len(bars) > 1 else None
        )
        at = moments.index(chosen) if chosen is not None else 0
        with place.container(horizontal=True, gap="xsmall", width="content"):
            for label, step, eventful in (
                ("Event", -1, True),
                ("Bar", -1, False),
                ("Bar", 1, False),
                ("Event", 1, True),
            ):
                st.button(
                    f"← {label}" if step < 0 else f"{label} →",
                    key=f"replay_{label.lower()}_{'back' if step < 0 else 'on'}",
                    on_click=_move,
                    args=(bars, at, step),
                    kwargs={"eventful": eventful},
                    disabled=_next(bars, at, step, eventful=eventful) == at,
                )
    return at


def _draw(bars: Sequence[SessionBar], at: int, *, later: bool) -> None:
    shown = bars if later else bars[: at + 1]
    prices = ("ts", "open", "high", "low", "close", "volume")
    frame = pd.DataFrame([{n: getattr(b, n) for n in prices} | b.indicators for b in shown])
    figure = charts.candles(frame, ema_spans=EMA_SPANS, with_volume=False)
    figure.update_layout(height=400)
    charts.add_signals(
        figure, _rows(shown, "signals", ["created_at", "side", "status", "confidence", "entry_price"]), frame
    )
    charts.add_fills(
        figure,
        _rows(shown, "fills", ["at", "kind", "side", "quantity", "price", "realised_pnl"]).rename(columns={"at": "ts"}),
    )
    bar = bars[at]
    if bar.position is not None:
        levels = [("Entry", bar.position.entry_price, "entry")]
        if bar.position.stop_price is not None:
            levels.append(("Stop", bar.position.stop_price, "stop"))
        charts.add_levels(figure, levels, shown[0].ts)
    charts.mark_bar(figure, bar.ts, bar.closed_at - bar.ts, bars[-1].ts)
    st.plotly_chart(figure, config=charts.CONFIG, key="replay_chart")


def _rows(bars: Sequence[SessionBar], what: str, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([row for bar in bars for row in getattr(bar, what)], columns=columns)


def _cards(bar: SessionBar) -> None:
    position, equity = bar.position, bar.equity
    held = "nothing" if position is None else f"{formats.side(position.side)} {formats.quantity(position.quantity)}"
    known = {name: value for name, value in bar.indicators.items() if value is not None}
    layout.cards(
        [
            Card(
                "Close",
                formats.price(bar.close),
                formats.percent(bar.close / bar.open - 1),
                layout.by_sign(bar.close - bar.open),
            ),
            Card(
                "Held at the close",
                held,
                None if position is None else f"{formats.money(position.unrealised)} USDT",
                None if position is None else layout.by_sign(position.unrealised),
                help="With the result at the close, before costs",
            ),
            Card(
                "Stop",
                formats.MISSING if position is None else formats.price(position.stop_price),
                help="For the next bar",
            ),
            Card("Equity, USDT", formats.MISSING if equity is None else formats.number(equity["equity"])),
            *(
                Card(_INDICATORS.get(name, formats.words(name)), _indicator(name, value))
                for name, value in known.items()
            ),
        ],
        min_width=145,
    )


_INDICATORS = {f"ema_{span}": f"EMA {span}" for span in EMA_SPANS} | {
    "atr_14": "ATR 14",
    "rsi_14": "RSI 14",
    "adx_14": "ADX 14",
    "macd_histogram": "MACD histogram",
    "bollinger_position": "Bollinger position",
    "volume_ratio_20": "Volume ratio",
}


def _indicator(name: str, value: float) -> str:
    return formats.price(value) if name.startswith(("ema_", "atr_")) else formats.number(value, 3)


_EVENT_COLUMNS = (
    Column("at", "Moment, UTC", lambda v: f"{v:%H:%M:%S}", kind="text", width=95),
    Column("what", "What", kind="text", width=110),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=80),
    Column("quantity", "Quantity", formats.quantity),
    Column("price", "Price", formats.price),
    Column("more", "More", kind="text", width=280),
)


def _events(bar: SessionBar) -> pd.DataFrame:
    """What happened in a bar and at its close, in that order."""
    rows = list[dict[str, Any]]()
    for o in bar.orders:
        price = o["trigger_price"]
        more = f"{o['client_order_id']}, now {formats.words(o['status']).lower()}"
        rows.append(_event(o["at"], f"Order, {formats.words(o['leg']).lower()}", o["side"], o["quantity"], price, more))
    for f in bar.fills:
        more = f"fee {formats.number(f['fee'])}"
        if f["kind"] != "ENTRY":
            more += f", result {formats.money(f['realised_pnl'])} USDT"
        rows.append(
            _event(f["at"], f"Fill, {formats.words(f['kind']).lower()}", f["side"], f["quantity"], f["price"], more)
        )
    for e in bar.exits:
        rows.append(_event(e["decided_at"], "Exit decided", None, None, None, formats.words(e["reason"])))
    for s in bar.signals:
        more = f"confidence {formats.share(s['confidence'])}, became {formats.words(s['status']).lower()}"
        rows.append(_event(s["created_at"], "Signal", s["side"], s["quantity"], s["entry_price"], more))
    return pd.DataFrame(rows).sort_values("at", kind="stable") if rows else pd.DataFrame()


def _event(
    at: datetime, what: str, side: str | None, quantity: float | None, price: float | None, more: str
) -> dict[str, Any]:
    return {"at": at, "what": what, "side": side, "quantity": quantity, "price": price, "more": more}


def _happened(bar: SessionBar) -> None:
    left, right = st.columns([6, 5], gap="medium")
    with left:
        st.markdown("**What happened**")
        events = _events(bar)
        if events.empty:
            st.caption("No order, fill or signal at this bar.")
        else:
            layout.table(events, _EVENT_COLUMNS, "replay_events", rows=10)
    with right:
        st.markdown("**What was decided at its close**")
        if not bar.decisions:
            st.caption("Nothing was decided at this bar: the session had not begun, was paused or has no data of it.")
        for number, decision in enumerate(bar.decisions):
            verdict = "a signal" if decision["outcome"] == "SIGNAL" else f"refused: {formats.words(decision['reason'])}"
            side = "" if decision["side"] is None else f" {formats.side(decision['side'])}"
            st.caption(f"{formats.literal(decision['strategy'])}{side} · {formats.literal(verdict)}")
            decisions.gates(
                pd.DataFrame(decision["gates"], columns=["name", "value", "threshold", "passed"]),
                f"replay_gates_{number}",
            )


def _page() -> None:
    session = layout.session_or_empty()
    if session is None:
        return
    chosen = _choose(session)
    if chosen is None:
        layout.empty("No candles of this symbol yet", "They appear as soon as the first fill has reached it.")
        return
    symbol, start, end = chosen
    bars = queries.session_bars(session.session_id, session.exchange, symbol, session.timeframe, start, end)
    if not bars:
        layout.empty("No candles in this range", "Choose a longer range or another day.")
        return
    at = _stepper(bars)
    later = st.toggle("Show what came later", value=False, key="replay_later")
    _draw(bars, at, later=later)
    bar = bars[at]
    st.subheader(f"{bar.ts:%Y-%m-%d %H:%M} to {bar.closed_at:%H:%M} UTC", anchor=False)
    _cards(bar)
    _happened(bar)


_page()
