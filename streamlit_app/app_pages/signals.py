"""Signals of the session, the set-ups that were refused and why, and the history of all decisions."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import charts
import decisions
import formats
import layout
import pandas as pd
import queries
import streamlit as st
import why
from layout import Card, Column

from trading_pipelines.store.read_models.chart import next_close
from trading_pipelines.store.read_models.sessions import SessionSummary
from trading_pipelines.store.read_models.signals import SignalDetail

STATUSES = ("ACTIVE", "EXECUTED", "HIT_TP", "HIT_SL", "CLOSED", "EXPIRED", "CANCELLED", "REJECTED")
PERIODS = {"24 h": timedelta(days=1), "7 d": timedelta(days=7), "30 d": timedelta(days=30), "All": None}
_BEGINNING = datetime.fromisoformat("2000-01-01T00:00:00+00:00")

layout.header(
    "Signals", "Every set-up the session accepted, with its levels, and every one it refused, with its reason."
)

_SIGNAL_COLUMNS = (
    Column("created_at", "Given, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=95),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("status", "Status", formats.words, kind="text", width=95),
    Column("confidence", "Confidence", formats.share),
    Column("entry_price", "Reference", formats.price, help="Close of the bar that gave the signal"),
    Column("stop_price", "Stop", formats.price),
    Column("tp1_price", "Target 1", formats.price),
    Column("tp3_price", "Target 3", formats.price),
    Column("net_profit", "Net profit", formats.percent, help="Expected, of the whole ladder after costs, of notional"),
    Column("risk_reward", "R:R", formats.ratio),
    Column("expected_value", "EV", formats.percent, layout.by_sign, help="Probability-weighted, of notional"),
    Column("result", "Result, USDT", formats.money, layout.by_sign, help="Net result so far of its position"),
)


def _filters(session: SessionSummary) -> dict[str, Any]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        symbols = st.multiselect("Symbols", session.symbols, placeholder="All symbols", width=230, key="f_symbols")
        sides = st.pills("Side", ["LONG", "SHORT"], selection_mode="multi", format_func=formats.side, key="f_sides")
        statuses = st.multiselect(
            "Status", STATUSES, placeholder="All", format_func=formats.words, width=200, key="f_statuses"
        )
        percent = st.slider("Confidence at least, %", 50, 80, 50, width=190, key="f_confidence")
    return {
        "symbols": tuple(symbols) or None,
        "sides": tuple(sides) or None,
        "statuses": tuple(statuses) or None,
        "min_confidence": percent / 100 if percent > 50 else 0.0,
    }


def _no_signals(session: SessionSummary, filtered: bool) -> None:
    if filtered:
        layout.empty("No signal passes these filters", "Widen the filters above to see more.")
    elif session.clock is not None:
        layout.empty(
            "This replay gave no signals", "Why each set-up was refused is under Rejections, with the numbers."
        )
    else:
        closes = next_close(session.timeframe, queries.utc_now())
        layout.empty(
            "No signals yet",
            f"The next bar closes at {closes:%H:%M} UTC; set-ups that were refused are under Rejections.",
        )


@layout.live(5)
def _signals(session: SessionSummary) -> None:
    filters = _filters(session)
    found = queries.list_signals(session.session_id, **filters)
    if found.empty:
        _no_signals(session, filtered=any(filters.values()))
        return
    ids = found["signal_id"].tolist()
    remembered = st.session_state.get("signal_id")
    selected = ids.index(remembered) if remembered in ids else 0
    # A table whose rows have moved is a new table: the selection stays with the signal, not with the row number.
    key = f"signals-{hash((session.name, ids[0], len(ids), tuple(filters.values())))}"
    row = layout.table(found, _SIGNAL_COLUMNS, key, rows=9, selectable=True, selected=selected)
    chosen = ids[selected if row is None else row]
    st.session_state["signal_id"] = chosen
    st.caption(f"{len(found)} signals, newest first. Select a row to see how it came about.")
    detail = queries.signal_detail(UUID(chosen))
    if detail is not None:
        _detail(session, detail)


def _detail(session: SessionSummary, detail: SignalDetail) -> None:
    signal = detail.signal
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader(
                f"{formats.side(signal['side'])} {formats.literal(signal['symbol'])}", anchor=False, width="content"
            )
            with st.container(horizontal=True, vertical_alignment="center", width="content", gap="xsmall"):
                st.badge(formats.words(signal["status"]), color="blue" if signal["status"] == "ACTIVE" else "gray")
                if st.button("Show on chart", icon=":material/candlestick_chart:", key="to_chart"):
                    st.session_state["chart_symbol"] = signal["symbol"]
                    st.session_state["chart_signal"] = str(signal["signal_id"])
                    st.switch_page("app_pages/chart.py")
        st.caption(_story(signal))
        layout.cards(_numbers(signal), min_width=125)
        left, right = st.columns([5, 6], gap="medium")
        with left:
            st.markdown("**Levels**")
            layout.table(_levels(signal), _LEVEL_COLUMNS, "levels")
            st.markdown("**What drove the prediction**")
            _factors(detail.factors[~detail.factors["name"].str.startswith("score")])
            _score(detail.factors.set_index("name")["weight"])
        with right:
            st.markdown("**Gates at the moment of decision**")
            decisions.gates(detail.gates, "gates")
        why.offer(str(signal["signal_id"]), "signal")


def _story(signal: dict[str, Any]) -> str:
    text = (
        f"Given {formats.moment_utc(signal['created_at'])} on the {signal['timeframe']} bar of "
        f"{signal['ts']:%H:%M}, valid until {formats.moment_utc(signal['valid_until'])}"
    )
    reason = f" · {formats.literal(signal['status_reason'])}" if signal["status_reason"] else ""
    model = f" · model {formats.literal(signal['model_id'])}" if signal["model_id"] else ""
    return text + reason + model


def _numbers(signal: dict[str, Any]) -> list[Card]:
    return [
        Card("Confidence", formats.share(signal["confidence"])),
        Card("Net profit", formats.percent(signal["net_profit"]), help="Expected, after costs, of notional"),
        Card("Gross profit", formats.percent(signal["gross_profit"]), help="Expected, before costs, of notional"),
        Card("Costs", formats.percent(signal["cost"], sign=False), help="Fees, slippage and funding, of notional"),
        Card("Expected value", formats.percent(signal["expected_value"]), help="Probability-weighted, of notional"),
        Card("Risk/reward", formats.ratio(signal["risk_reward"])),
        Card("Leverage", f"{formats.quantity(signal['leverage'])}×"),
        Card("Margin, USDT", formats.number(signal["margin"]), help="Proposed; the order path sizes again"),
    ]


_LEVEL_COLUMNS = (
    Column("level", "Level", kind="text"),
    Column("price", "Price", formats.price),
    Column("distance", "Distance", formats.percent),
    Column("r", "R", formats.ratio, help="In units of the stop distance"),
)


def _levels(signal: dict[str, Any]) -> pd.DataFrame:
    reference, stop = signal["entry_price"], signal["stop_price"]
    sign = 1 if signal["side"] == "LONG" else -1
    names = ("tp3_price", "tp2_price", "tp1_price", "entry_price", "stop_price")
    prices = [signal[name] for name in names]
    return pd.DataFrame(
        {
            "level": ["Target 3", "Target 2", "Target 1", "Reference", "Stop"],
            "price": prices,
            "distance": [price / reference - 1 for price in prices],
            "r": [sign * (price - reference) / abs(reference - stop) for price in prices],
        }
    )


def _factors(factors: pd.DataFrame) -> None:
    if factors.empty:
        st.caption("No factors were recorded for this signal.")
        return
    top = factors.head(8)
    weights = top["weight"].astype("float64").tolist()
    figure = charts.horizontal_bars(
        [formats.name(feature) for feature in top["name"]],
        weights,
        [formats.number(w, 3, sign=True) for w in weights],
        signed=True,
    )
    st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="factors")


def _score(weights: pd.Series) -> None:
    """The composite score at the decision, factor by factor, for a signal that could read one."""
    parts = weights[weights.index.str.startswith("score_")].astype("float64")
    if parts.empty:
        return
    known = formats.number(weights.get("score"), 1)
    st.markdown(f"**Composite score {known}, its factors from -1 to 1**")
    values = parts.tolist()
    names = [formats.words(name.removeprefix("score_")) for name in parts.index]
    figure = charts.horizontal_bars(names, values, [formats.number(v, 2, sign=True) for v in values], signed=True)
    st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="score_factors")


def _since(session: SessionSummary, key: str) -> datetime:
    """Let the reader choose a period that ends at the newest decision."""
    period = st.segmented_control("Period", list(PERIODS), default="7 d", key=key, required=True)
    newest = queries.newest_decision(session.session_id)
    length = PERIODS[period or "7 d"]
    return _BEGINNING if length is None or newest is None else newest - length


def _rejections(session: SessionSummary) -> None:
    since = _since(session, "rejection_period")
    counts = queries.decision_counts(session.session_id, since)
    refused = counts[counts["outcome"] == "REJECTED"]
    if refused.empty:
        layout.empty(
            "Nothing was refused in this period",
            "A decision is made for every symbol at the close of every bar; refusals appear here with their reason.",
        )
        return
    accepted = int(counts.loc[counts["outcome"] == "SIGNAL", "decisions"].sum())
    total = int(counts["decisions"].sum())
    st.caption(
        f"{formats.number(total, 0)} decisions, {formats.number(total - accepted, 0)} refused, "
        f"{formats.number(accepted, 0)} became signals "
        f"({formats.percent(accepted / total, 2, sign=False)})."
    )
    left, right = st.columns([5, 6], gap="medium")
    with left:
        st.markdown("**Why set-ups were refused**")
        figure = charts.horizontal_bars(
            [formats.words(r) for r in refused["reason"]],
            refused["decisions"].tolist(),
            [f"{formats.number(r.decisions, 0)} ({formats.share(r.share)})" for r in refused.itertuples()],
            signed=False,
        )
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="rejection_bars")
    with right:
        st.markdown("**What was measured against what was asked**")
        layout.table(_reason_numbers(refused), _REASON_COLUMNS, "rejection_numbers")
    _refused_set_ups(session, since, refused["reason"].tolist())


_REASON_COLUMNS = (
    Column("reason", "Reason", kind="text"),
    Column("decisions", "Refused", lambda value: formats.number(value, 0)),
    Column("share", "Share", formats.share),
    Column("median", "Median value", help="Of the newest 2000 refusals"),
    Column("threshold", "Threshold"),
)


def _reason_numbers(refused: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "reason": refused["reason"].map(formats.words),
            "decisions": refused["decisions"],
            "share": refused["share"],
            "median": [formats.gate_number(r.reason, r.median_value) for r in refused.itertuples()],
            "threshold": [formats.gate_number(r.reason, r.threshold) for r in refused.itertuples()],
        }
    )


def _refused_set_ups(session: SessionSummary, since: datetime, reasons: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reason = st.selectbox(
            "Reason",
            reasons,
            index=None,
            placeholder="All reasons",
            format_func=formats.words,
            width=260,
            key="r_reason",
        )
        symbols = st.multiselect("Symbols", session.symbols, placeholder="All symbols", width=260, key="r_symbols")
    _decision_table(session, since, "REJECTED", reason, tuple(symbols) or None, "rejected")


_DECISION_COLUMNS = (
    Column("decided_at", "Decided, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=95),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("confidence", "Confidence", formats.share),
    Column(
        "outcome", "Outcome", lambda v: {"SIGNAL": "✓ Signal", "REJECTED": "✗ Refused"}.get(v, v), kind="text", width=95
    ),
    Column("why", "Reason", kind="text", width=200),
    Column("measured", "Value"),
    Column("asked", "Threshold"),
    Column("all_failed", "All gates not passed", kind="text", width=330),
)
_LIMIT = 500


def _decision_table(
    session: SessionSummary,
    since: datetime,
    outcome: str | None,
    reason: str | None,
    symbols: tuple[str, ...] | None,
    key: str,
) -> None:
    found = queries.list_decisions(session.session_id, since, outcome, reason, symbols, _LIMIT)
    if found.empty:
        layout.empty("No decision passes these filters", "Widen the period or the filters above.")
        return
    rejected = found["outcome"] == "REJECTED"
    found["why"] = found["reason"].map(formats.words).where(rejected, "All gates passed")
    found["measured"] = [formats.gate_number(r.reason, r.value) for r in found.itertuples()]
    found["asked"] = [formats.gate_number(r.reason, r.threshold) for r in found.itertuples()]
    found["all_failed"] = [
        formats.MISSING if formats.missing(names) else ", ".join(formats.gate(n) for n in names.split(", "))
        for names in found["failed_gates"]
    ]
    layout.table(found, _DECISION_COLUMNS, key, rows=14)
    if len(found) == _LIMIT:
        st.caption(f"The newest {_LIMIT} decisions are shown; narrow the filters to see older ones.")


def _history(session: SessionSummary) -> None:
    since = _since(session, "history_period")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        outcome = st.segmented_control(
            "Outcome",
            ["All", "SIGNAL", "REJECTED"],
            default="All",
            required=True,
            format_func=lambda v: {"SIGNAL": "Signals", "REJECTED": "Refused"}.get(v, v),
            key="h_outcome",
        )
        symbols = st.multiselect("Symbols", session.symbols, placeholder="All symbols", width=260, key="h_symbols")
    chosen = None if outcome == "All" else outcome
    _decision_table(session, since, chosen, None, tuple(symbols) or None, "history")


def _page() -> None:
    session = layout.session_or_empty()
    if session is None:
        return
    signals, rejections, history = st.tabs(
        ["Signals", "Rejections", "Decision history"], key="signals_view", on_change="rerun", bind="query-params"
    )
    if signals.open:
        with signals:
            _signals(session)
    if rejections.open:
        with rejections:
            _rejections(session)
    if history.open:
        with history:
            _history(session)


_page()
