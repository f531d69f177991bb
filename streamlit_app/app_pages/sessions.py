"""Paper accounts side by side: what each trades, whether it may, and what it has earned."""

import formats
import hand
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Column

from trading_pipelines.store.read_models.sessions import SessionSummary

layout.header("Sessions", "Accounts side by side, each with its own strategies, rules and results.")

_LIMIT = 100


def _state(row: pd.Series) -> str:
    if row["stopping"] and row["status"] != "STOPPED":
        return "Stopping"
    if row["mode"] == "paper" and row["status"] == "RUNNING" and not row["known"]:
        return "Held back"
    return formats.words(row["status"])


_COLUMNS = (
    Column("name", "Session", kind="text", pinned=True, width=140),
    Column("state", "State", None, lambda v: False if v == "Held back" else None, kind="text", width=95),
    Column("mode", "Mode", formats.words, kind="text", width=80),
    Column("strategies", "Strategies", kind="text", width=170),
    Column("direction", "Direction", formats.words, kind="text", width=85),
    Column("symbols", "Symbols", lambda v: formats.number(v, 0)),
    Column("equity", "Equity, USDT", formats.number),
    Column("result", "Result", formats.percent, layout.by_sign, help="After all costs, open positions at their mark"),
    Column("drawdown", "Drawdown", formats.share, help="The largest, on marked equity"),
    Column("open", "Open", lambda v: formats.number(v, 0)),
    Column("closed", "Closed", lambda v: formats.number(v, 0)),
    Column("win_rate", "Win rate", formats.share),
    Column("signals", "Signals", lambda v: formats.number(v, 0)),
    Column("costs", "Costs", formats.cost),
    Column("start_capital", "Start, USDT", lambda v: formats.number(v, 0)),
    Column("created_at", "Created, UTC", formats.moment, kind="text", width=130),
)


@layout.live(5)
def _comparison() -> None:
    found = queries.compare_sessions(_LIMIT)
    found["state"] = found.apply(_state, axis=1)
    found["win_rate"] = found["won"] / found["closed"].where(found["closed"] > 0)
    layout.table(found, _COLUMNS, "sessions", rows=14)
    st.caption(
        "Held back: the account has not been found equal to its exchange just now, so no entry is sent; stops and "
        "exits are. A new session: `trading session create NAME --strategy ema_cross --start`."
    )


_INSTRUCTION_COLUMNS = (
    Column("requested_at", "Asked, UTC", lambda v: f"{v:%Y-%m-%d %H:%M:%S}", kind="text", pinned=True, width=150),
    Column("kind", "What", formats.words, kind="text", width=90),
    Column("subject", "Of", kind="text", width=110),
    Column("status", "Became", formats.words, lambda v: None if v in ("DONE", "PENDING") else False, kind="text"),
    Column("outcome", "Outcome", kind="text", width=330),
    Column("seconds", "Took", lambda v: formats.MISSING if formats.missing(v) else f"{formats.number(v, 1)} s"),
    Column("requested_by", "By", kind="text", width=110),
)
_DIFFERENCE_COLUMNS = (
    Column("first_seen_at", "Found, UTC", lambda v: f"{v:%Y-%m-%d %H:%M:%S}", kind="text", pinned=True, width=150),
    Column("kind", "What", formats.words, kind="text", width=180),
    Column("message", "Difference", kind="text", width=430),
    Column("times_seen", "Seen", lambda v: formats.number(v, 0)),
    Column("mended_at", "Mended, UTC", formats.moment, kind="text", width=130),
    Column("mended_by", "By", kind="text", width=280),
)


@layout.live(3)
def _history(session: SessionSummary) -> None:
    instructions = queries.list_instructions(session.session_id, _LIMIT)
    differences = queries.list_discrepancies(session.session_id, _LIMIT)
    st.markdown("**By hand**")
    if instructions.empty:
        layout.empty("Nothing was asked for yet", "Trades by hand and changes of the session are listed here.")
    else:
        layout.table(instructions, _INSTRUCTION_COLUMNS, "instructions", rows=8)
    st.markdown("**Differences with the exchange**")
    if differences.empty:
        layout.empty("No difference yet", "Every ten seconds the account is compared with its exchange.")
    else:
        layout.table(differences, _DIFFERENCE_COLUMNS, "differences", rows=8)


def _page() -> None:
    session = layout.session_or_empty()
    if session is None:
        return
    _comparison()
    st.subheader(formats.literal(session.name), anchor=False)
    layout.trading_state(session)
    hand.session_controls(session)
    _history(session)


_page()
