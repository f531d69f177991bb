"""The whole market at a glance: what the charts say, which symbols are worth a look, what was abnormal."""

from datetime import timedelta

import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

PERIODS = {"24 h": timedelta(days=1), "7 d": timedelta(days=7), "30 d": timedelta(days=30)}
TOP = 10
_MOST_DAYS, _MOST_ANOMALIES, _WHOLE_UNIVERSE, _MOST_LISTINGS = 60, 500, 1_000, 100

layout.header(
    "Screener",
    "What the charts of every symbol say, the day's ranking, and what was abnormal. No order follows from it.",
)


def _says(side: str) -> str:
    return "Neutral" if side == "NEUTRAL" else formats.side(side)


_TECHNICAL_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=105),
    Column("side", "Says", _says, layout.by_side, kind="text", width=90),
    Column("confidence", "Confidence", formats.share, help="How well the four charts agree; no probability"),
    Column("trend_1d", "1d", formats.ratio, layout.by_sign, help="Trend by the order of the averages, -1 to 1"),
    Column("trend_4h", "4h", formats.ratio, layout.by_sign, help="Trend by the order of the averages, -1 to 1"),
    Column("setup_1h", "1h", formats.ratio, layout.by_sign, help="Support for an entry, -1 to 1"),
    Column("setup_15m", "15m", formats.ratio, layout.by_sign, help="Support for an entry, -1 to 1"),
    Column("entry_price", "Price", formats.price),
    Column("stop_price", "Stop", formats.price),
    Column("tp1_price", "Target 1", formats.price),
    Column("tp2_price", "Target 2", formats.price),
    Column("tp3_price", "Target 3", formats.price),
    Column("risk_reward", "R:R", formats.ratio),
    Column("notional", "Size, USDT", formats.compact, help="For the session's capital with nothing else open"),
    Column("reasons", "Why", kind="text", width=460),
)
_RANKING_COLUMNS = (
    Column("rank", "#", kind="text", pinned=True, width=45),
    Column("symbol", "Symbol", kind="text", pinned=True, width=105),
    Column("direction", "Leans", formats.side, layout.by_side, kind="text", width=90),
    Column("score", "Score", formats.share, help="Trend 35 %, volume 25 %, volatility 20 %, RSI set-up 20 %"),
    Column("trend", "Trend", formats.share),
    Column("volume", "Volume", formats.share),
    Column("volatility", "Volatility", formats.share),
    Column("rsi_setup", "RSI set-up", formats.share),
    Column("reasons", "Why", kind="text", width=620),
)
_ANOMALY_COLUMNS = (
    Column("available_at", "Known, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=105),
    Column("kind", "What", formats.words, kind="text", width=150),
    Column("measure", "Size", formats.ratio, help="Multiple of the size that counts as an anomaly"),
    Column("change", "Bar", formats.percent, layout.by_sign),
    Column("volume_ratio", "Volume", formats.ratio, help="Over the median of a week"),
    Column("timeframe", "Bars", kind="text", width=60),
)


_UNIVERSE_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=115),
    Column("state", "Universe", kind="text", width=170, help="Member, or what speaks against it"),
    Column("price", "Price", formats.price),
    Column("change_24h", "24 h", formats.percent, layout.by_sign),
    Column("quote_volume_24h", "Volume 24 h", formats.compact),
    Column("spread", "Spread", lambda v: formats.percent(v, 3, sign=False)),
    Column("funding_rate", "Funding", lambda v: formats.percent(v, 4), layout.by_sign, help="Newest settled rate"),
    Column("funding_hours", "Every, h", lambda v: formats.number(v, 0), help="Hours between two settlements"),
    Column("open_interest_usd", "Open interest, USD", formats.compact),
    Column("mark_price", "Mark price", formats.price),
    Column("since", "Since, UTC", formats.moment, kind="text", width=130),
    Column("traded", "Traded", kind="text", width=75),
)
_LISTING_COLUMNS = (
    Column("ts", "Seen, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=115),
    Column("kind", "What", formats.words, kind="text", width=100),
    Column("listed_at", "Listed, UTC", formats.moment, kind="text", width=130),
    Column("first_price", "First price", formats.price),
    Column("first_volume", "First volume", formats.compact),
    Column("price", "Price now", formats.price),
)


def _universe(exchange: str) -> None:
    pairs = queries.universe_now(exchange)
    if pairs.empty:
        layout.empty(
            "Nobody has looked yet",
            "The exchange's list of markets is read every five minutes while `trading up` runs; `trading universe` "
            "reads it by hand.",
        )
        return
    members = int(pairs["member"].sum())
    everything = st.toggle("All pairs", key="u_all")
    shown = pairs if everything else pairs[pairs["member"]]
    states = [
        "Member" if member else " · ".join(formats.words(reason) for reason in reasons.split())
        for member, reasons in zip(shown["member"], shown["reasons"], strict=True)
    ]
    shown = shown.assign(state=states, traded=["✓" if followed else "" for followed in shown["followed"]])
    layout.table(shown, _UNIVERSE_COLUMNS, "universe", rows=16)
    st.caption(
        f"{members} of {len(pairs)} pairs are members · newest quote {formats.moment_utc(pairs['quoted_at'].max())}"
    )
    st.markdown("**Listed and delisted**")
    listings = queries.newest_listings(exchange, _MOST_LISTINGS)
    if listings.empty:
        layout.empty("Nothing new so far", "A pair that appears or leaves is named here, and as an event.")
    else:
        layout.table(listings, _LISTING_COLUMNS, "listings", rows=8)


def _technical(exchange: str) -> None:
    found = queries.newest_technical_signals(exchange)
    if found.empty:
        layout.empty(
            "No technical signals yet",
            "Every symbol's charts are read a minute after each quarter of an hour, once `trading up` has stored "
            "about 45 days of candles.",
        )
        return
    counts = found["side"].value_counts()
    layout.cards(
        [
            Card("Long", str(counts.get("LONG", 0))),
            Card("Short", str(counts.get("SHORT", 0))),
            Card("Neutral", str(counts.get("NEUTRAL", 0))),
            Card("Charts in conflict", str(int(found["conflict"].sum())), help="4h against 1d, or 15m against 1h"),
        ],
        min_width=130,
    )
    sides = st.pills(
        "Says", ["LONG", "SHORT", "NEUTRAL"], selection_mode="multi", format_func=formats.words, key="t_sides"
    )
    shown = found[found["side"].isin(sides)] if sides else found
    if shown.empty:
        layout.empty("No symbol passes this filter", "Choose another side above.")
        return
    layout.table(_without_zero_confidence(shown), _TECHNICAL_COLUMNS, "technical", rows=22)
    st.caption(f"{len(shown)} of {len(found)} symbols · newest close {formats.moment_utc(found['available_at'].max())}")


def _without_zero_confidence(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(confidence=frame["confidence"].where(frame["side"] != "NEUTRAL"))


def _ranking(exchange: str) -> None:
    days = queries.ranked_days(exchange, _MOST_DAYS)
    if not days:
        layout.empty(
            "No ranking yet",
            "The day that has ended is ranked within half an hour of `trading up`, then each night at 00:24 UTC, for "
            "every symbol with 106 days of candles.",
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        day = st.selectbox("Day, UTC", days, format_func=lambda d: f"{d:%Y-%m-%d}", width=150, key="s_day")
        everything = st.toggle("All symbols", key="s_all")
    found = queries.ranking(exchange, day, _WHOLE_UNIVERSE if everything else TOP)
    layout.table(found, _RANKING_COLUMNS, "ranking", rows=20)
    known = formats.moment_utc(found["available_at"].max())
    st.caption(f"{len(found)} of {found['symbols'].max()} symbols · known from {known}")


def _anomalies(exchange: str) -> None:
    period = st.segmented_control("Period", list(PERIODS), default="7 d", required=True, key="a_period")
    since = queries.utc_now().replace(second=0, microsecond=0) - PERIODS[period]
    found = queries.list_anomalies(exchange, since, _MOST_ANOMALIES)
    if found.empty:
        layout.empty(
            "No anomaly yet in this period",
            "Candles are looked at every quarter of an hour while `trading up` runs; a quiet market has none.",
        )
        return
    kinds = st.pills(
        "What", sorted(found["kind"].unique()), selection_mode="multi", format_func=formats.words, key="a_kinds"
    )
    shown = found[found["kind"].isin(kinds)] if kinds else found
    layout.table(shown, _ANOMALY_COLUMNS, "anomalies", rows=18)
    limit = f"; the newest {_MOST_ANOMALIES} are shown" if len(found) == _MOST_ANOMALIES else ""
    st.caption(
        f"{len(shown)} found{limit}. After a spike, a pump, a dump or a wash-trading look no signal of the symbol "
        "passes for 16 bars; abnormal volatility has a gate of its own."
    )


def _page() -> None:
    session = layout.current_session()
    exchanges = [e.exchange for e in queries.list_exchanges()]
    if not exchanges:
        layout.empty(
            "No market data yet",
            "The market is looked at as soon as candles are stored. `trading up` fills the database.",
        )
        return
    exchange = session.exchange if session and session.exchange in exchanges else exchanges[0]
    technical, ranking, anomalies, universe = st.tabs(
        ["Technical signals", "Ranking", "Anomalies", "Universe"],
        key="screener_view",
        on_change="rerun",
        bind="query-params",
    )
    if technical.open:
        with technical:
            _technical(exchange)
    if ranking.open:
        with ranking:
            _ranking(exchange)
    if anomalies.open:
        with anomalies:
            _anomalies(exchange)
    if universe.open:
        with universe:
            _universe(exchange)


_page()
