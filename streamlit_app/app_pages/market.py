"""Market overview: what the symbols do, how the account stands, whether the platform is alive."""

import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.market import MarketIndex
from trading_pipelines.store.read_models.sessions import SessionSummary

layout.header("Market", "Prices, trends and the newest signal of every symbol, refreshed every few seconds.")


def _account_cards(session: SessionSummary) -> list[Card]:
    account = queries.account(session.session_id)
    if account is None:
        return []
    active = queries.list_signals(session.session_id, statuses=("ACTIVE",))
    limit = f" of {session.max_open_positions}" if session.max_open_positions else ""
    return [
        Card(
            "Equity, USDT",
            formats.number(account.equity),
            f"{formats.percent(account.equity / session.start_capital - 1)} since start",
            layout.by_sign(account.equity - session.start_capital),
        ),
        Card(
            "Today, USDT",
            formats.money(account.today),
            formats.percent(account.today / account.day_start_equity),
            layout.by_sign(account.today),
            help="Change of equity since 00:00 UTC",
        ),
        Card(
            "Open positions",
            f"{account.open_positions}{limit}",
            f"{formats.money(account.unrealised)} unrealised",
            layout.by_sign(account.unrealised),
        ),
        Card(
            "Active signals",
            str(len(active)),
            formats.literal(", ".join(active["symbol"].head(3))) if len(active) else "none waiting",
        ),
    ]


def _market_cards(overview: pd.DataFrame) -> list[Card]:
    known = overview.dropna(subset=["change_24h"])
    if known.empty:
        return []
    best, worst = known.loc[known["change_24h"].idxmax()], known.loc[known["change_24h"].idxmin()]
    return [
        Card(
            f"{name} in 24 h",
            formats.literal(row["symbol"]),
            f"{formats.percent(row['change_24h'])} at {formats.price(row['price'])}",
            layout.by_sign(row["change_24h"]),
            chart=row["spark"],
        )
        for name, row in (("Strongest", best), ("Weakest", worst))
    ]


def _mood_cards(simulated: bool) -> list[Card]:
    """Fear & Greed and the dominance of bitcoin, each with its change in a day and a line of 30 days."""
    found = queries.market_indices(simulated)
    return [
        _index_card("Fear & Greed", found.get("fear_greed"), 0, "0 is extreme fear, 100 extreme greed"),
        _index_card(
            "BTC dominance", found.get("btc_dominance"), 2, "Bitcoin's share of the market value of all coins", "%"
        ),
    ]


def _index_card(label: str, index: MarketIndex | None, digits: int, meaning: str, unit: str = "") -> Card:
    if index is None:
        return Card(label, formats.MISSING, "not collected yet", help=f"{meaning}; collected every hour")
    told = [formats.fear_greed(index.value)] if label.startswith("Fear") else []
    if index.is_stale:
        told = [f"old: {formats.moment(index.ts)}"]
    elif index.day_before is not None:
        told.append(f"{formats.number(index.value - index.day_before, digits, sign=True)} in a day")
    value = f"{formats.number(index.value, digits)}{unit}"
    return Card(label, value, ", ".join(told), help=f"{meaning}; the line shows 30 days", chart=index.history)


_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=105),
    Column("price", "Price, USDT", formats.price),
    Column("change_24h", "24 h", formats.percent, layout.by_sign),
    Column("spark", "48 h", kind="spark", width=120, help="Hourly closes of the last two days"),
    Column(
        "trend",
        "Trend",
        formats.trend,
        layout.by_side,
        kind="text",
        help="Up: price above EMA 20 above EMA 80 of hourly closes; down: the reverse; mixed: neither",
    ),
    Column("trend_gap", "EMA 20/80", formats.percent, layout.by_sign, help="EMA 20 over EMA 80, hourly"),
    Column("volume_24h", "Volume 24 h, USDT", formats.compact),
    Column(
        "score",
        "Score",
        formats.score,
        layout.by_score,
        help="Composite score, 0 to 100; above 70 strong, below 30 one to avoid",
    ),
    Column("model", "Model", kind="text", help="Side and confidence of the newest prediction"),
    Column("signal", "Last signal", kind="text", width=250),
)


def _model_view(row: pd.Series) -> str:
    if formats.missing(row["model_confidence"]):
        return formats.MISSING
    return f"{formats.side(row['model_side'])} {formats.share(row['model_confidence'])}"


def _last_signal(row: pd.Series, now: pd.Timestamp) -> str:
    if formats.missing(row["signal_at"]):
        return formats.MISSING
    when = formats.ago(row["signal_at"], now)
    return f"{formats.side(row['signal_side'])} · {formats.words(row['signal_status'])} · {when}"


@layout.live(3)
def _overview(session: SessionSummary | None, exchange: str) -> None:
    layout.status_line()
    overview = queries.market_overview(
        exchange, session.session_id if session else None, session.timeframe if session else "15m"
    )
    now = pd.Timestamp(layout.as_of(session) if session else queries.utc_now())
    own = _account_cards(session) if session else []
    layout.cards(own + _market_cards(overview) + _mood_cards(exchange == "simulated"), min_width=145)
    if overview["price"].notna().sum() == 0:
        layout.empty(
            "No candles yet",
            "The first fill is under way or has not started; Data status shows how far it is. "
            "`trading ingest` starts one by hand.",
        )
        return
    overview["model"] = overview.apply(_model_view, axis=1)
    overview["signal"] = overview.apply(_last_signal, axis=1, now=now)
    layout.table(overview, _COLUMNS, "market", rows=22)
    oldest, newest = overview["price_at"].min(), overview["price_at"].max()
    st.caption(
        f"{len(overview)} symbols of {formats.literal(exchange)} · prices from {formats.moment_utc(oldest)} "
        f"to {formats.moment_utc(newest)}"
    )


def _page() -> None:
    session = layout.current_session()
    exchanges = [e.exchange for e in queries.list_exchanges()]
    if not exchanges:
        layout.status_line()
        layout.empty(
            "No market data yet",
            "Prices appear here as soon as the first candles are stored. `trading up` fills the database and "
            "shows its progress; `trading ingest` fetches candles by hand.",
        )
        return
    exchange = session.exchange if session and session.exchange in exchanges else exchanges[0]
    _overview(session, exchange)


_page()
