"""Which settings are in force. Nothing is changed here: a setting is a variable, read once when a program starts."""

import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Column

layout.header("Settings", "What the platform runs with. Secrets are masked, and nothing can be changed here.")

_COLUMNS = (
    Column("variable", "Variable", kind="text", pinned=True, width=310),
    Column("value", "Value", kind="text", width=200),
    Column("state", "", None, lambda v: True if v else None, kind="text", width=85),
    Column("meaning", "Meaning", kind="text", width=900),
)


def _page() -> None:
    lines = queries.setting_lines()
    found = pd.DataFrame([vars(line) for line in lines])
    groups = [str(name) for name in found["variable"].map(_group).unique()]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        word = st.text_input("Search", key="settings_word", width=230, placeholder="Name or meaning")
        group = st.selectbox(
            "Group",
            groups,
            index=None,
            placeholder="All groups",
            format_func=formats.words,
            width=200,
            key="settings_of",
        )
        changed = st.toggle("Only changed ones", key="settings_changed")
    shown = found[found["changed"]] if changed else found
    shown = shown[shown["variable"].map(_group) == group] if group else shown
    told = (shown["variable"] + " " + shown["meaning"]).str.lower()
    shown = shown[told.str.contains((word or "").lower(), regex=False)]
    if shown.empty:
        layout.empty("No setting passes these filters", "Every setting has its default where nothing is written.")
    else:
        shown = shown.assign(state=shown["changed"].map({True: "changed", False: ""}))
        layout.table(shown, _COLUMNS, "settings", rows=18)
    st.caption(
        f"{len(shown)} of {len(found)} settings as this application has read them. They are variables of the "
        "environment or lines of `.env` (see `.env.example`); restart `trading up` after a change. The same on the "
        "command line: `trading settings --changed`."
    )


def _group(variable: str) -> str:
    """First part of a nested setting's name; the platform's own have none."""
    first, nested, _ = variable.removeprefix("TRADING_").partition("__")
    return first.lower() if nested else "platform"


_page()
