"""What news and posts say: every coin now, one coin over time with the texts behind it, and fast turns."""

from datetime import timedelta
from typing import Any

import charts
import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

PERIODS = {"24 h": timedelta(days=1), "7 d": timedelta(days=7), "30 d": timedelta(days=30)}
MARKET = "MARKET"
_MOST_TEXTS, _MOST_TURNS = 200, 100

layout.header(
    "Sentiment",
    "What news and posts say about each coin, weighted by age. Repetitions count once; a text is never an instruction.",
)


def _signed(value: Any) -> str:
    return formats.number(value, 2, sign=True)


_COINS = (
    Column("coin", "Coin", kind="text", pinned=True, width=100),
    Column("score", "Sentiment", _signed, layout.by_sign, help="-1 to 1, pulled towards 0 where few texts speak"),
    Column("change_4h", "4 h", _signed, layout.by_sign, help="Change over four hours; more than 0.3 is announced"),
    Column("mentions", "Texts, 24 h", formats.compact),
    Column("unusual", "Unusual", kind="text", width=110, help="Outside of what is usual for this coin"),
    Column("low", "Low", _signed, help="Below it the sentiment is unusually bad for this coin"),
    Column("high", "High", _signed, help="Above it the sentiment is unusually good for this coin"),
    Column("ts", "As of, UTC", formats.moment, kind="text", width=130),
)
_TEXTS = (
    Column("available_at", "Known, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("score", "Score", _signed, layout.by_sign),
    Column("confidence", "Sure", formats.share),
    Column("title", "Text", kind="text", width=560),
    Column("source", "Source", kind="text", width=120),
    Column("language", "Language", kind="text", width=85),
    Column("repeated", "Repeats", kind="text", width=80, help="Says what another text has said before"),
    Column("scorer", "Read by", kind="text", width=150),
)
_TURNS = (
    Column("ts", "When, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("coin", "Coin", kind="text", width=100),
    Column("change", "Change", _signed, layout.by_sign),
    Column("message", "What", kind="text", width=620),
)


def _empty() -> None:
    layout.empty(
        "No sentiment yet",
        "News and posts are collected and read every quarter of an hour while `trading up` runs; `trading collect` and "
        "`trading sentiment update` do it at once. Which sources answer is on the page Data status.",
    )


def _unusual(row: Any) -> str:
    if row.score < row.low:
        return "▼ bad"
    return "▲ good" if row.score > row.high else ""


def _coins(simulated: bool) -> None:
    found = queries.newest_sentiment(simulated)
    if found.empty:
        _empty()
        return
    market = found[found["coin"] == MARKET]
    coins = found[found["coin"] != MARKET].sort_values(["mentions", "coin"], ascending=[False, True])
    coins = coins.assign(unusual=[_unusual(row) for row in coins.itertuples()])
    layout.cards(
        [
            Card("Market", _signed(market["score"].iloc[0]) if len(market) else formats.MISSING),
            Card("Coins spoken of", str(len(coins))),
            Card("Texts, 24 h", formats.compact(market["mentions"].iloc[0]) if len(market) else formats.MISSING),
            Card("Unusual", str(int((coins["unusual"] != "").sum())), help="Outside of what is usual for the coin"),
        ],
        min_width=130,
    )
    layout.table(coins, _COINS, "sentiment", rows=20)
    known = formats.moment_utc(found["ts"].max())
    st.caption(f"{len(coins)} coins · newest value {known} · read by {formats.literal(found['scorer'].iloc[0])}")


def _one_coin(simulated: bool) -> None:
    newest = queries.newest_sentiment(simulated)
    if newest.empty:
        _empty()
        return
    names = newest.sort_values(["mentions", "coin"], ascending=[False, True])["coin"].tolist()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        coin = st.selectbox("Coin", names, width=170, key="sentiment_coin", bind="query-params")
        period = st.segmented_control("Period", list(PERIODS), default="7 d", required=True, key="sentiment_period")
    since = queries.utc_now().replace(second=0, microsecond=0) - PERIODS[period]
    history = queries.sentiment_history(coin, since, simulated)
    if history.empty:
        layout.empty("No sentiment yet in this period", "Choose a longer one.")
        return
    st.plotly_chart(charts.sentiment(history), config=charts.CONFIG, key="sentiment_chart")
    texts = queries.coin_texts(coin, since, _MOST_TEXTS, simulated)
    if not texts.empty:
        layout.table(_known(texts), _TEXTS, "sentiment_texts", rows=14)
    st.caption(
        "Solid: all sources together; thin: single ones; dotted: what is usual for this coin. Bars count the texts of "
        "the last 24 hours."
    )


def _known(texts: pd.DataFrame) -> pd.DataFrame:
    return texts.assign(
        repeated=texts["repeated"].map({True: "yes", False: ""}),
        scorer=texts["scorer"].fillna("not scored"),
        language=texts["language"].fillna(""),
    )


def _turns(simulated: bool) -> None:
    found = queries.sentiment_turns(_MOST_TURNS, simulated)
    if found.empty:
        layout.empty(
            "No turn yet",
            "A sentiment that changes by more than 0.3 within 4 hours, with 3 texts or more, is listed here while "
            "`trading up` runs.",
        )
        return
    layout.table(found, _TURNS, "sentiment_turns", rows=18)


def _page() -> None:
    session = layout.current_session()
    simulated = (session.exchange if session else queries.settings().exchange) == "simulated"
    coins, one, turns = st.tabs(
        ["All coins", "One coin", "Turns"], key="sentiment_view", on_change="rerun", bind="query-params"
    )
    if coins.open:
        with coins:
            _coins(simulated)
    if one.open:
        with one:
            _one_coin(simulated)
    if turns.open:
        with turns:
            _turns(simulated)


_page()
