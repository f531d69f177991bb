"""What moves on chains: net flows of the exchanges, whale scores, stablecoins, large transactions."""

from datetime import timedelta

import charts
import formats
import layout
import queries
import streamlit as st
from layout import Card, Column

PERIODS = {"24 h": timedelta(days=1), "7 d": timedelta(days=7), "30 d": timedelta(days=30)}
_MOST_TRANSACTIONS = 500
_ALL = "All coins"

layout.header(
    "Whale flows",
    "Coins that go to exchanges may be sold, coins that leave them are kept; stablecoins that arrive may buy.",
)

_COINS = (
    Column("coin", "Coin", kind="text", pinned=True, width=80),
    Column("netflow_usd", "To exchanges, net", formats.compact, help="USD; negative: more coins left than came"),
    Column("whale_score", "Whale score", formats.ratio, layout.by_sign, help="1: large holders withdraw, -1: deposit"),
    Column("scored_day", "Scored day, UTC", formats.day, kind="text", width=120),
    Column("transactions", "Large ones", lambda v: formats.number(v, 0), help="Large transactions"),
    Column("inflow_usd", "Large to exchanges", formats.compact),
    Column("outflow_usd", "Large from exchanges", formats.compact),
    Column("largest_usd", "Largest", formats.compact),
)
_TRANSACTIONS = (
    Column("ts", "When, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("coin", "Coin", kind="text", width=70),
    Column("direction", "Direction", formats.words, kind="text", width=100),
    Column("amount_usd", "USD", formats.compact),
    Column("amount", "Coins", formats.quantity),
    Column("sender_kind", "From", formats.words, kind="text", width=90),
    Column("sender", "Owner or address", kind="text", width=190),
    Column("recipient_kind", "To", formats.words, kind="text", width=90),
    Column("recipient", "Owner or address", kind="text", width=190),
    Column("blockchain", "Chain", kind="text", width=100),
)


def _overview(simulated: bool, period: timedelta) -> None:
    since = queries.this_minute() - period
    summary = queries.coin_flows(since, simulated)
    stable = queries.flow_series("stablecoin_inflow_usd", None, since, simulated)
    if summary.empty:
        layout.empty(
            "No flows yet",
            "Transactions are collected every five minutes and summed every hour while `trading up` runs; outside of "
            "the simulated market a key of Whale Alert or CryptoQuant is needed.",
        )
        return
    newest = summary["whale_score"].dropna()
    layout.cards(
        [
            Card("Net to exchanges, USD", formats.compact(summary["netflow_usd"].sum())),
            Card("Stablecoin inflow, USD", formats.compact(stable["value"].sum())),
            Card("Large transactions", formats.number(summary["transactions"].sum(), 0)),
            Card("Mean whale score", formats.ratio(newest.mean() if len(newest) else None)),
        ]
    )
    layout.table(summary, _COINS, "coin_flows", rows=14)
    if not stable.empty:
        st.subheader("Stablecoins to exchanges by hour, million USD", anchor=False)
        figure = charts.signed_bars(stable["ts"], stable["value"] / 1e6, "million USD")
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="stablecoins")


def _history(simulated: bool, period: timedelta) -> None:
    since = queries.this_minute() - period
    coins = sorted(queries.coin_flows(since, simulated)["coin"])
    if not coins:
        layout.empty("No flows yet", "They are summed every hour while `trading up` runs.")
        return
    place = coins.index("BTC") if "BTC" in coins else 0
    coin = st.selectbox("Coin", coins, index=place, width=150, key="flow_coin")
    net = queries.flow_series("exchange_netflow_usd", coin, since, simulated)
    if net.empty:
        layout.empty("No net flow yet in this period", "Choose a longer one.")
    else:
        st.subheader("Net flow to exchanges by hour, million USD", anchor=False)
        figure = charts.signed_bars(net["ts"], net["value"] / 1e6, "million USD")
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="netflow")
    month = queries.this_minute() - max(period, PERIODS["30 d"])
    scores = queries.flow_series("whale_score", coin, month, simulated)
    if not scores.empty:
        st.subheader("Whale score by day", anchor=False)
        figure = charts.signed_bars(scores["ts"], scores["value"], "", digits=2)
        figure.update_yaxes(range=[-1, 1], tickformat="+.1f")
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="whale_score")
        st.caption("What left exchanges minus what came, over both and the usual flow of two weeks.")


def _transactions(simulated: bool, period: timedelta) -> None:
    since = queries.this_minute() - period
    found = queries.list_transactions(since, None, 0.0, _MOST_TRANSACTIONS, simulated)
    if found.empty:
        layout.empty("No large transaction yet in this period", "`trading up` looks every five minutes.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        coin = st.selectbox("Coin", [_ALL, *sorted(found["coin"].unique())], width=150, key="transaction_coin")
        directions = st.pills(
            "Direction",
            ["INFLOW", "OUTFLOW", "TRANSFER"],
            selection_mode="multi",
            format_func=formats.words,
            key="transaction_directions",
        )
    shown = found if coin == _ALL else found[found["coin"] == coin]
    shown = shown[shown["direction"].isin(directions)] if directions else shown
    if shown.empty:
        layout.empty("No transaction passes this filter", "Choose another coin or direction above.")
        return
    layout.table(shown, _TRANSACTIONS, "transactions", rows=20)
    told = int(shown["alerted_at"].notna().sum())
    limit = f"; the newest {_MOST_TRANSACTIONS} are shown" if len(found) == _MOST_TRANSACTIONS else ""
    st.caption(f"{len(shown)} transactions, {told} of them told of as alerts{limit}")


def _page() -> None:
    simulated = queries.is_simulated()
    chosen = st.segmented_control("Period", list(PERIODS), default="7 d", required=True, key="flow_period")
    period = PERIODS[chosen]
    overview, history, transactions = st.tabs(
        ["Overview", "History", "Transactions"], key="flows_view", on_change="rerun", bind="query-params"
    )
    if overview.open:
        with overview:
            _overview(simulated, period)
    if history.open:
        with history:
            _history(simulated, period)
    if transactions.open:
        with transactions:
            _transactions(simulated, period)


_page()
