"""How much of each limit is used up, what keeps new entries away, and what a person was warned of."""

from collections.abc import Callable
from typing import Any

import formats
import hand
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.risk import RiskState
from trading_pipelines.store.read_models.sessions import SessionSummary

layout.header("Risk", "How much of each limit is used up, what keeps new entries away, and what there was to warn of.")

_MOST_ALERTS, _MOST_REFUSALS = 200, 200
_NEAR = 0.8
"""Share of a limit from which on it is called near."""

_LIMIT_COLUMNS = (
    Column("rule", "Limit", kind="text", pinned=True, width=190),
    Column("share", "Used up", kind="bar", width=170),
    Column("used", "Now", width=95),
    Column("limit", "At most", width=95),
    Column("state", "State", None, lambda v: False if v != "✓ ok" else None, kind="text", width=100),
    Column("then", "What happens there", kind="text", width=430),
)


def _row(
    rule: str, used: float, limit: float, then: str, write: Callable[[float], str] = formats.share
) -> dict[str, Any]:
    share = used / limit
    state = "✗ reached" if share >= 1 else "! near" if share >= _NEAR else "✓ ok"
    return {"rule": rule, "share": share, "used": write(used), "limit": write(limit), "state": state, "then": then}


def _limits(state: RiskState) -> pd.DataFrame:
    limits, equity = state.limits, max(state.equity, 1e-9)
    lock = f"No entry for {limits.drawdown_lock_hours:g} h, even if the equity recovers sooner"
    symbol = "Margin of one symbol" if state.largest_symbol is None else f"Margin of {state.largest_symbol}"
    cut = "A larger order is made smaller, or refused"
    rows = [
        _row("Loss of the day", state.daily_loss, limits.max_daily_loss, "No entry until the next 00:00 UTC"),
        _row("Drawdown", state.drawdown, limits.max_drawdown_new_trades, lock),
        _row("Drawdown, the last line", state.drawdown, limits.max_drawdown_close_all, "Every position is closed"),
        _row("Open positions", state.open_positions, limits.max_open_positions, "No further entry", _count),
        _row("Margin, long", state.margin_long / equity, limits.max_margin_per_direction, cut),
        _row("Margin, short", state.margin_short / equity, limits.max_margin_per_direction, cut),
        _row(symbol, state.largest_margin / equity, limits.max_margin_per_symbol, cut),
    ]
    if limits.stop_guard_stops is not None:
        then = f"No entry for {limits.stop_guard_lock_hours:g} h"
        name = f"Stopped out in {limits.stop_guard_window_hours:g} h"
        rows.append(_row(name, state.stopped, limits.stop_guard_stops, then, _count))
    return pd.DataFrame(rows)


def _count(value: float) -> str:
    return formats.number(value, 0)


def _marked(state: RiskState) -> str:
    return "not marked yet" if state.marked_at is None else f"marked {formats.ago(state.marked_at, state.as_of)}"


def _cards(state: RiskState, locks: pd.DataFrame, limits: pd.DataFrame) -> list[Card]:
    worst = limits.loc[limits["share"].idxmax()]
    whole = int(locks["symbol"].isna().sum())
    platform = queries.platform_status()
    engaged = platform.kill_engaged or queries.kill_file_exists()
    return [
        Card("Equity, USDT", formats.number(state.equity), _marked(state)),
        Card("Loss of the day", formats.share(state.daily_loss), f"limit {formats.share(state.limits.max_daily_loss)}"),
        Card("Drawdown", formats.share(state.drawdown), f"limit {formats.share(state.limits.max_drawdown_new_trades)}"),
        Card(
            "Nearest limit",
            formats.share(worst["share"]),
            formats.literal(str(worst["rule"]).lower()),
            False if worst["share"] >= _NEAR else None,
            help="How much of it is used up",
        ),
        Card(
            "Locks",
            str(len(locks)),
            "the whole account" if whole else "single symbols" if len(locks) else "none in force",
            False if whole else None,
        ),
        Card(
            "Kill switch",
            "Engaged" if engaged else "Off",
            f"since {formats.moment(platform.kill_changed_at)}",
            False if engaged else None,
        ),
    ]


_LOCK_COLUMNS = (
    Column("reason", "Because of", formats.words, kind="text", pinned=True, width=190),
    Column("symbol", "Symbol", kind="text", width=110),
    Column("side", "Side", kind="text", width=90),
    Column("starts_at", "Since, UTC", formats.moment, kind="text", width=130),
    Column("ends_at", "Until, UTC", formats.moment, kind="text", width=130),
    Column("seconds_left", "Left", formats.duration),
    Column("lock_id", "Number", lambda v: formats.number(v, 0), help="For `trading risk lift NUMBER`"),
)


@layout.live(5)
def _now(session: SessionSummary) -> None:
    state = queries.risk_state(session.session_id)
    if state is None:
        return
    locks, limits = queries.locks_in_force(session.session_id), _limits(state)
    layout.cards(_cards(state, locks, limits), min_width=150)
    st.markdown("**Limits**")
    layout.table(limits, _LIMIT_COLUMNS, "limits", rows=10)
    st.markdown("**Locks in force**")
    if locks.empty:
        layout.empty("Nothing is locked", "Stops, a loss of the day and a drawdown lock entries for a time.")
    else:
        shown = locks.assign(
            symbol=locks["symbol"].fillna("all"), side=[_side(value) for value in locks["side"].tolist()]
        )
        layout.table(shown, _LOCK_COLUMNS, "locks", rows=8)
        st.caption("A lock ends by itself; `trading risk lift NUMBER` ends one before its time.")


def _side(value: object) -> str:
    return "both" if formats.missing(value) else formats.side(value)


_ALERT_COLUMNS = (
    Column("ts", "Time, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("severity", "Severity", layout.severity, layout.by_severity, kind="text", width=95),
    Column("kind", "Warning", formats.words, kind="text", width=160),
    Column("subject", "Subject", kind="text", width=150),
    Column("message", "Message", kind="text", width=520),
)


@layout.live(5)
def _alerts(session: SessionSummary) -> None:
    found = queries.list_alerts(session.session_id, _MOST_ALERTS)
    if found.empty:
        layout.empty(
            "No warning yet",
            "Positions near their stop or liquidation, losses near a limit, failed runs and anomalies are told here "
            "while `trading up` runs.",
        )
        return
    kinds = st.pills(
        "Warnings", sorted(found["kind"].unique()), selection_mode="multi", format_func=formats.words, key="alert_kinds"
    )
    shown = found[found["kind"].isin(kinds)] if kinds else found
    if shown.empty:
        layout.empty("No warning of this kind", "Choose another one above.")
        return
    layout.table(shown, _ALERT_COLUMNS, "alerts", rows=16)
    st.caption(f"{len(shown)} warnings of the session and of the platform, the newest first.")


_REFUSAL_COLUMNS = (
    Column("assessed_at", "Asked, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=100),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("outcome", "Outcome", lambda v: {"REDUCE": "Made smaller", "REFUSE": "Refused"}.get(v, v), kind="text"),
    Column("reason", "Reason", kind="text", width=430),
    Column("stage", "When", formats.words, kind="text", width=95, help="For the signal or again for its order"),
    Column("strategy", "Strategy", formats.words, kind="text", width=140),
)


@layout.live(10)
def _refusals(session: SessionSummary) -> None:
    found = queries.refusals(session.session_id, _MOST_REFUSALS)
    if found.empty:
        layout.empty(
            "Nothing was refused or made smaller yet",
            "The rules are asked for every signal and again before its order; Signals has what the gates refused.",
        )
        return
    layout.table(found, _REFUSAL_COLUMNS, "refusals", rows=16)


def _page() -> None:
    session = layout.session_or_empty()
    if session is None:
        return
    layout.trading_state(session)
    now, alerts, refusals = st.tabs(
        ["Limits", "Warnings", "Refused by the rules"], key="risk_view", on_change="rerun", bind="query-params"
    )
    if now.open:
        with now:
            hand.stop_control(session)
            _now(session)
    if alerts.open:
        with alerts:
            _alerts(session)
    if refusals.open:
        with refusals:
            _refusals(session)


_page()
