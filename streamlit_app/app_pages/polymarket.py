"""What prediction markets expect: implied prices, odds of single markets over time, how markets ended."""

from datetime import timedelta

import charts
import formats
import layout
import queries
import streamlit as st
from layout import Card, Column

_MOST_MARKETS, _MOST_LINES = 500, 8
_ALL = "All coins"
_METHODS = {"TERMINAL": "price at the expiry", "TOUCH": "price reached until the expiry"}

layout.header(
    "Polymarket",
    "What people bet on about coins, and the prices that ladders of such markets imply together.",
)


def _points(value: float) -> str:
    return formats.MISSING if formats.missing(value) else f"{formats.number(100 * value, 1, sign=True)}"


_DISTRIBUTIONS = (
    Column("coin", "Coin", kind="text", pinned=True, width=70),
    Column("expires_at", "Expires, UTC", formats.moment, kind="text", width=135),
    Column("method", "From", lambda m: _METHODS.get(m, m), kind="text", width=190),
    Column("spot", "Spot", formats.price),
    Column("q10", "10 %", formats.price, help="The price below which it lies with a probability of 10 %"),
    Column("median", "Median", formats.price),
    Column("q90", "90 %", formats.price),
    Column("above_spot", "Above spot", formats.share, help="Probability of a higher price than now"),
    Column("rungs", "Markets", lambda v: formats.number(v, 0)),
    Column("repaired", "Repaired", formats.share, help="Largest contradiction between its markets that was smoothed"),
)
_MARKETS = (
    Column("question", "Question", kind="text", pinned=True, width=420),
    Column("coin", "Coin", kind="text", width=80),
    Column("probability", "Yes", formats.share),
    Column("change_24h", "24 h, points", _points, layout.by_sign),
    Column("spread", "Spread", formats.share),
    Column("liquidity_usd", "Liquidity, USD", formats.compact),
    Column("volume_usd", "Volume, USD", formats.compact),
    Column("expires_at", "Expires, UTC", formats.moment, kind="text", width=135),
    Column("status", "State", formats.words, kind="text", width=90),
    Column("outcome", "Paid", formats.ratio, help="What Yes paid"),
)


def _nothing() -> None:
    layout.empty(
        "No prediction markets yet",
        "They are looked at every hour while `trading up` runs; Polymarket needs no key.",
    )


def _implied(simulated: bool, coin: str | None) -> None:
    found = queries.newest_distributions(coin, simulated)
    if found.empty:
        if queries.list_markets(coin, ("OPEN",), 1, simulated).empty:
            _nothing()
        else:
            layout.empty(
                "No implied prices yet", "A ladder needs several markets of one expiry and a price of the coin."
            )
        return
    layout.cards(
        [
            Card(
                f"{row.coin}, {row.expires_at:%d %b}",
                formats.price(row.median),
                f"{formats.percent(row.median / row.spot - 1)} from spot",
                help=f"Median {_METHODS[str(row.method)]}",
            )
            for row in found.dropna(subset=["median"]).head(4).itertuples()
        ]
    )
    layout.table(found, _DISTRIBUTIONS, "distributions", rows=10)
    names = [f"{r.coin} {r.expires_at:%Y-%m-%d}, {_METHODS[str(r.method)]}" for r in found.itertuples()]
    chosen = st.selectbox("Ladder", range(len(names)), format_func=lambda i: names[i], width=420, key="ladder")
    row = found.iloc[chosen]
    left, right = st.columns(2)
    with left:
        st.subheader("Probability of a higher price", anchor=False)
        figure = charts.survival(row["strikes"], row["survival"], row["spot"])
        st.plotly_chart(figure, config=charts.STATIC_CONFIG, key="survival")
    with right:
        st.subheader("How it has moved", anchor=False)
        history = queries.distribution_history(row["coin"], row["expires_at"], row["method"], simulated)
        st.plotly_chart(charts.implied_history(history), config=charts.STATIC_CONFIG, key="implied_history")


def _markets(simulated: bool, coin: str | None) -> None:
    closed = st.toggle("Resolved and vanished ones too", key="closed_markets")
    statuses = ("OPEN", "RESOLVED", "VANISHED") if closed else ("OPEN",)
    found = queries.list_markets(coin, statuses, _MOST_MARKETS, simulated)
    if found.empty:
        _nothing()
        return
    layout.table(found, _MARKETS, "markets", rows=14)
    st.caption(f"{len(found)} markets, those that moved most in a day first")
    names = dict(zip(found["market_id"], found["question"], strict=True))
    chosen = st.multiselect(
        "History of",
        list(names),
        default=list(names)[:3],
        format_func=lambda market: names[market],
        max_selections=_MOST_LINES,
        key="chosen_markets",
    )
    if chosen:
        history = queries.odds_history(tuple(chosen), queries.this_minute() - timedelta(days=30), simulated)
        if not history.empty:
            st.plotly_chart(charts.odds(history), config=charts.STATIC_CONFIG, key="odds_history")


def _page() -> None:
    simulated = queries.is_simulated()
    coins = queries.prediction_coins(simulated)
    coin = st.selectbox("Coin", [_ALL, *coins], width=150, key="odds_coin")
    wanted = None if coin == _ALL else coin
    implied, markets = st.tabs(["Implied prices", "Markets"], key="odds_view", on_change="rerun", bind="query-params")
    if implied.open:
        with implied:
            _implied(simulated, wanted)
    if markets.open:
        with markets:
            _markets(simulated, wanted)


_page()
