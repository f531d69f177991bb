"""The composite score of every symbol, and what one score is made of."""

from datetime import timedelta

import charts
import formats
import layout
import pandas as pd
import plotly.graph_objects as go
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.scores import ScoreParts

PERIODS = {"24 h": timedelta(days=1), "7 d": timedelta(days=7), "30 d": timedelta(days=30)}
FACTORS = {
    "technical": "Charts",
    "sentiment": "Sentiment",
    "on_chain": "On-chain",
    "market": "Market context",
    "momentum": "Momentum",
}

layout.header(
    "Scores",
    "Charts, sentiment, on-chain flows, market context and momentum as one number from 0 to 100, at every close.",
)


def _age(minutes: object) -> str:
    return formats.MISSING if formats.missing(minutes) else formats.duration(float(str(minutes)) * 60)


_RANKING = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=105),
    Column("score", "Score", formats.score, layout.by_score, help="0 to 100; above 70 strong, below 30 one to avoid"),
    Column("confidence", "Confidence", formats.share, help="Less where factors are missing; not calibrated"),
    Column("agree", "Agree", kind="text", help="Factors that agree with the score, of those that are known"),
    *(Column(name, title, formats.ratio, layout.by_sign, help="From -1 to 1") for name, title in FACTORS.items()),
    Column("missing", "Missing", kind="text", width=200, help="Missing or too old; the other weights count more"),
)
_INPUTS = (
    Column("factor", "Factor", lambda name: FACTORS.get(name, name), kind="text", width=130),
    Column("name", "Input", formats.name, kind="text", width=190),
    Column("raw", "As published", formats.published),
    Column("mapped", "Mapped", formats.ratio, layout.by_sign, help="From -1 to 1, as it went into its factor"),
    Column("age_minutes", "Age", _age, kind="text", help="Since it became known"),
    Column("meaning", "What it is", kind="text", width=380),
)


def _show_ranking(found: pd.DataFrame) -> None:
    layout.cards(
        [
            Card("Strong", str(int((found["score"] > 70).sum())), help="Score above 70"),
            Card("To avoid", str(int((found["score"] < 30).sum())), help="Score below 30"),
            Card("Without a score", str(int(found["score"].isna().sum())), help="Less than half of the weights known"),
            Card("Newest close", f"{found['available_at'].max():%H:%M} UTC", formats.day(found["available_at"].max())),
        ],
        min_width=155,
    )
    agree = found["consensus"].astype(str) + " of " + found["known"].astype(str)
    layout.table(found.assign(agree=agree), _RANKING, "scores", rows=22)


def _show_one(parts: ScoreParts) -> None:
    told = "none" if parts.score is None else f"{parts.score:.1f}"
    layout.cards(
        [
            Card("Score", told),
            Card("Confidence", formats.share(parts.confidence)),
            Card("Weights known", formats.share(parts.coverage)),
            Card("Agreeing factors", str(parts.consensus)),
            Card("Close", f"{parts.available_at:%H:%M} UTC", formats.day(parts.available_at)),
        ],
        min_width=155,
    )
    left, right = st.columns(2)
    with left:
        st.caption("Points above and below 50")
        figure = charts.horizontal_bars(
            [FACTORS.get(f.factor, f.factor) for f in parts.factors],
            [f.contribution for f in parts.factors],
            ["left out" if f.value is None else formats.number(f.contribution, 1, sign=True) for f in parts.factors],
            signed=True,
        )
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="score_bars")
    with right:
        for line in parts.words:
            st.markdown(f"- {formats.literal(line)}")
    layout.table(pd.DataFrame([vars(each) for each in parts.inputs]), _INPUTS, "inputs", rows=14)


def _show_history(exchange: str, symbol: str, timeframe: str) -> None:
    period = st.segmented_control("Period", list(PERIODS), default="7 d", required=True, key="score_period")
    since = queries.utc_now().replace(second=0, microsecond=0) - PERIODS[period]
    history = queries.score_history(exchange, symbol, timeframe, since)
    if history.empty:
        layout.empty("No scores in this period", "Choose a longer one.")
        return
    colours = formats.palette()
    figure = go.Figure()
    figure.add_hrect(70, 100, fillcolor=colours.gain, opacity=0.08, line_width=0)
    figure.add_hrect(0, 30, fillcolor=colours.loss, opacity=0.08, line_width=0)
    figure.add_trace(
        go.Scatter(x=history["available_at"], y=history["score"], mode="lines", line={"color": colours.accent})
    )
    figure.update_yaxes(range=[0, 100], title="Score", side="right")
    figure.update_layout(height=260, margin={"l": 8, "r": 48, "t": 8, "b": 8}, showlegend=False, hovermode="x")
    st.plotly_chart(figure, config=charts.CONFIG, key="score_history")


def _page() -> None:
    session, timeframe = layout.current_session(), queries.settings().signal_timeframe
    exchanges = [e.exchange for e in queries.list_exchanges()]
    exchange = session.exchange if session and session.exchange in exchanges else next(iter(exchanges), "")
    found = queries.newest_scores(exchange, timeframe)
    if found.empty:
        layout.empty(
            "No scores yet",
            "`trading up` scores every close when it brings market data up to date; a replay scores its own span.",
        )
        return
    _show_ranking(found)
    st.subheader("One score")
    symbol = st.selectbox("Symbol", found["symbol"].tolist(), width=200, key="score_symbol")
    parts = None if symbol is None else queries.explain_score(exchange, symbol, timeframe)
    if symbol is not None and parts is not None:
        _show_one(parts)
        _show_history(exchange, symbol, timeframe)


_page()
