"""How a decision is shown, wherever it is: its gates with what was measured and what was asked."""

import formats
import layout
import pandas as pd
import streamlit as st
from layout import Column

_GATE_COLUMNS = (
    Column("verdict", "", None, lambda v: v == "✓", kind="text", width=36),
    Column("gate", "Gate", kind="text", width=185),
    Column("value", "Value"),
    Column("threshold", "Threshold"),
)


def gates(measured: pd.DataFrame, key: str) -> None:
    """Every gate of a decision (name, value, threshold, passed), each number in the gate's own unit."""
    if measured.empty:
        st.caption("No gates were recorded.")
        return
    shown = pd.DataFrame(
        {
            "gate": measured["name"].map(formats.gate),
            "value": [formats.gate_number(g.name, g.value) for g in measured.itertuples(index=False)],
            "threshold": [formats.gate_number(g.name, g.threshold) for g in measured.itertuples(index=False)],
            "verdict": measured["passed"].map({True: "✓", False: "✗"}),
        }
    )
    layout.table(shown, _GATE_COLUMNS, key, rows=len(shown))
