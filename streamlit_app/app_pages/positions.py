"""Open positions as they stand, closed ones, and every order with its slippage or the reason of its refusal."""

import html
from collections.abc import Sequence

import formats
import hand
import layout
import pandas as pd
import queries
import streamlit as st
import why
from layout import Card, Column

from trading_pipelines.store.read_models.sessions import SessionSummary

layout.header("Positions", "What is open, what it earns and how it is protected, refreshed every two seconds.")

# Open positions that get a price ladder; the table below lists all.
_LADDERS = 8


def _summary(session: SessionSummary, found: pd.DataFrame) -> None:
    account = queries.account(session.session_id)
    equity = account.equity if account else session.start_capital
    notional = (found["quantity_open"] * found["mark_price"]).sum()
    unprotected = int((found["quantity_protected"] < found["quantity_open"]).sum())
    limit = f" of {session.max_open_positions}" if session.max_open_positions else ""
    unrealised = found["unrealised_pnl"].sum()
    layout.cards(
        [
            Card("Open", f"{len(found)}{limit}"),
            Card(
                "Unrealised, USDT",
                formats.money(unrealised),
                formats.percent(unrealised / equity),
                layout.by_sign(unrealised),
            ),
            Card(
                "Net, USDT",
                formats.money(found["net"].sum()),
                "after costs",
                help="Realised and unrealised result of the open positions",
            ),
            Card(
                "Margin, USDT",
                formats.number(found["margin"].sum()),
                f"{formats.share(found['margin'].sum() / equity)} of equity",
            ),
            Card("Exposure, USDT", formats.number(notional), f"{formats.ratio(notional / equity)}× equity"),
            Card(
                "Unprotected",
                str(unprotected),
                "all protected" if unprotected == 0 else "look at the orders",
                None if unprotected == 0 else False,
                help="Positions whose stop covers less than what is open",
            ),
        ],
        min_width=140,
    )


def _tick(name: str, left: float) -> str:
    """A level on the bar; the stop's name stands above it, because a trailed stop passes the entry."""
    above = name == "SL"
    line = '<div style="width:1px;height:12px;margin:0 auto;background:currentColor"></div>'
    label = f'<div style="padding:3px 0">{name}</div>'
    return (
        f'<div style="position:absolute;left:{left:.1f}%;top:{0 if above else 16}px;transform:translateX(-50%);'
        'text-align:center;font-size:.68rem;line-height:10px;opacity:.8">'
        f"{label + line if above else line + label}</div>"
    )


def _ladder(position: pd.Series) -> str:
    """A card with the result and a bar from stop to last target that shows where the price stands."""
    colours = formats.palette()
    sign = 1 if position["side"] == "LONG" else -1
    levels = [("SL", position["stop_price"]), ("Entry", position["entry_price"])]
    levels += [(f"T{n}", position[f"tp{n}_price"]) for n in (1, 2, 3)]
    known = [(name, price) for name, price in levels if not formats.missing(price)]
    prices = [sign * price for _, price in known] + [sign * position["mark_price"]]
    low, high = min(prices), max(prices)

    def at(price: float) -> float:
        return 3 + 94 * (sign * price - low) / ((high - low) or 1)

    entry, mark = at(position["entry_price"]), at(position["mark_price"])
    tone = colours.gain if position["net"] >= 0 else colours.loss
    side_tone = colours.gain if sign > 0 else colours.loss
    ticks = "".join(_tick(name, at(price)) for name, price in known)
    return f"""
<div style="border:1px solid {colours.grid};border-radius:.5rem;padding:.6rem .8rem;font-variant-numeric:tabular-nums">
 <div style="display:flex;justify-content:space-between;align-items:baseline;gap:.5rem">
  <span><b style="color:{side_tone}">{formats.side(position["side"])}</b>
   <b>{html.escape(position["symbol"])}</b>
   <span style="opacity:.7">{formats.quantity(position["leverage"])}×</span></span>
  <b style="color:{tone};font-size:1.1rem">{formats.money(position["net"])}</b>
 </div>
 <div style="display:flex;justify-content:space-between;font-size:.8rem;opacity:.8">
  <span>{formats.price(position["entry_price"])} → {formats.price(position["mark_price"])}</span>
  <span>{formats.percent(position["net"] / position["entry_margin"])} of margin</span>
 </div>
 <div style="position:relative;height:44px;margin-top:.2rem">
  <div style="position:absolute;left:0;right:0;top:20px;height:4px;border-radius:2px;background:{colours.grid}"></div>
  <div style="position:absolute;left:{min(entry, mark):.1f}%;width:{abs(mark - entry):.1f}%;top:20px;height:4px;
   background:{colours.gain if mark >= entry else colours.loss}"></div>
  {ticks}
  <div style="position:absolute;left:{mark:.1f}%;top:16px;width:10px;height:10px;margin:1px 0 0 -5px;border-radius:50%;
   background:{colours.gain if mark >= entry else colours.loss}"></div>
 </div>
</div>"""


_OPEN_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=95),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("net", "Net, USDT", formats.money, layout.by_sign, help="After fees and funding"),
    Column("on_margin", "On margin", formats.percent, layout.by_sign, help="Net result over the margin at entry"),
    Column("quantity_open", "Open", formats.quantity),
    Column("entry_price", "Entry", formats.price),
    Column("mark_price", "Mark", formats.price),
    Column("stop_price", "Stop", formats.price),
    Column("to_stop", "To stop", formats.percent, help="From the mark price"),
    Column("next_target", "Next target", formats.price),
    Column("targets_filled", "Filled", kind="text", width=85),
    Column("liquidation_price", "Liquidation", formats.price),
    Column("to_liquidation", "To liq.", formats.percent, help="From the mark price"),
    Column("leverage", "Leverage", lambda value: f"{formats.quantity(value)}×"),
    Column("margin", "Margin, USDT", formats.number, help="Of the part that is still open"),
    Column("protected", "Protected", formats.share, lambda v: False if v < 1 else None, help="Share covered by a stop"),
    Column("unrealised_pnl", "Unrealised", formats.money, layout.by_sign),
    Column("realised_pnl", "Realised", formats.money, layout.by_sign, help="Before fees and funding"),
    Column("fees", "Fees", formats.cost),
    Column("funding", "Funding", formats.cost, help="Minus: paid; plus: received"),
    Column("held", "Held", formats.duration),
    Column("opened_at", "Opened, UTC", formats.moment, kind="text", width=130),
)


def _with_why(found: pd.DataFrame, columns: Sequence[Column], id_column: str, key: str, *, rows: int) -> None:
    """A table of which one row can be selected, and what led to that one below."""
    ids = found[id_column].tolist()
    # A table whose rows have moved is a new table; the choice stays with the trade.
    remembered = st.session_state.get(f"{key}_chosen")
    row = layout.table(
        found,
        columns,
        f"{key}-{hash(tuple(ids))}",
        rows=rows,
        selectable=True,
        selected=ids.index(remembered) if remembered in ids else None,
    )
    st.session_state[f"{key}_chosen"] = None if row is None else ids[row]
    if row is None:
        st.caption("Select a row to see why it is there: signal, gates, model, features, candles.")
    else:
        why.chain(ids[row], key)


def _next_target(position: pd.Series) -> float | None:
    filled = position["targets_filled"].split()
    waiting = [position[f"tp{n}_price"] for n in (1, 2, 3) if f"TP{n}" not in filled]
    return waiting[0] if waiting else None


def _open_table(found: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    shown = found.copy()
    shown["on_margin"] = found["net"] / found["entry_margin"]
    shown["to_stop"] = found["stop_price"] / found["mark_price"] - 1
    shown["to_liquidation"] = found["liquidation_price"] / found["mark_price"] - 1
    shown["protected"] = found["quantity_protected"] / found["quantity_open"]
    shown["next_target"] = found.apply(_next_target, axis=1).astype("float64")
    shown["targets_filled"] = found["targets_filled"].replace("", "none")
    shown["held"] = (now - found["opened_at"]).dt.total_seconds()
    return shown


@layout.live(2)
def _open(session: SessionSummary) -> None:
    found = queries.open_positions(session.session_id)
    if found.empty:
        waiting = len(queries.list_signals(session.session_id, statuses=("ACTIVE",)))
        layout.empty(
            "No open position",
            f"{waiting} active signals wait for execution."
            if waiting
            else "A position opens when a signal is executed; Signals shows what was given and what was refused.",
        )
        return
    _summary(session, found)
    with layout.wall(min(len(found), _LADDERS), 270):
        for _, position in found.head(_LADDERS).iterrows():
            st.html(_ladder(position))
    _with_why(_open_table(found, pd.Timestamp(layout.as_of(session))), _OPEN_COLUMNS, "position_id", "open", rows=15)
    layout.updated(queries.utc_now())


_CLOSED_COLUMNS = (
    Column("closed_at", "Closed, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=95),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=85),
    Column("net", "Net, USDT", formats.money, layout.by_sign, help="After fees and funding"),
    Column("on_margin", "On margin", formats.percent, layout.by_sign),
    Column("r", "R", lambda value: formats.number(value, 2, sign=True), layout.by_sign, help="Net over initial risk"),
    Column("close_reason", "Closed by", formats.words, kind="text", width=120),
    Column("targets_filled", "Targets", kind="text", width=100),
    Column("quantity_initial", "Quantity", formats.quantity),
    Column("entry_price", "Entry", formats.price),
    Column("exit_price", "Average exit", formats.price),
    Column("realised_pnl", "Gross", formats.money, layout.by_sign),
    Column("fees", "Fees", formats.cost),
    Column("funding", "Funding", formats.cost),
    Column("slippage", "Slippage", formats.cost, help="Contained in the prices"),
    Column("held", "Held", formats.duration),
    Column("opened_at", "Opened, UTC", formats.moment, kind="text", width=130),
)
_LIMIT = 500


@layout.live(10)
def _closed(session: SessionSummary) -> None:
    found = queries.closed_positions(session.session_id, _LIMIT)
    if found.empty:
        layout.empty(
            "No closed position yet", "Positions move here when their stop, last target or an exit closes them."
        )
        return
    found["on_margin"] = found["net"] / found["entry_margin"]
    risk = (found["entry_price"] - found["initial_stop_price"]).abs() * found["quantity_initial"]
    found["r"] = found["net"] / risk.where(risk > 0)
    found["targets_filled"] = found["targets_filled"].replace("", "none")
    found["held"] = (found["closed_at"] - found["opened_at"]).dt.total_seconds()
    _with_why(found, _CLOSED_COLUMNS, "position_id", "closed", rows=16)
    shown = f"The last {_LIMIT} closed positions" if len(found) == _LIMIT else f"{len(found)} closed positions"
    st.caption(f"{shown}; Performance has the sums and the export.")


_ORDER_COLUMNS = (
    Column("created_at", "Created, UTC", formats.moment, kind="text", pinned=True, width=130),
    Column("symbol", "Symbol", kind="text", width=95),
    Column("leg", "Leg", formats.words, kind="text", width=80),
    Column("side", "Side", formats.side, layout.by_side, kind="text", width=80),
    Column("type", "Type", formats.words, kind="text", width=105),
    Column(
        "status",
        "Status",
        formats.words,
        lambda v: False if v in ("REJECTED", "UNKNOWN") else None,
        kind="text",
        width=105,
    ),
    Column("status_reason", "Reason", kind="text", width=230),
    Column("quantity", "Quantity", formats.quantity),
    Column("filled_quantity", "Filled", formats.quantity),
    Column("trigger_price", "Trigger", formats.price),
    Column("requested_price", "Requested", formats.price),
    Column("average_price", "Filled at", formats.price),
    Column("slippage_bps", "Slippage", formats.bps, lambda v: False if v > 10 else None, help="Plus: worse than asked"),
    Column("fee", "Fee, USDT", formats.number),
    Column("realised_pnl", "Result, USDT", formats.money, layout.by_sign, help="Before fees and funding"),
    Column("client_order_id", "Client order id", kind="text", width=270),
)
_GROUPS = {
    "All": None,
    "Working": ("INTENT", "SENT", "UNKNOWN", "ACCEPTED", "PARTIALLY_FILLED"),
    "Filled": ("FILLED",),
    "Refused": ("REJECTED",),
    "Cancelled": ("CANCELLED",),
}


@layout.live(3)
def _orders(session: SessionSummary) -> None:
    group = st.segmented_control("Orders", list(_GROUPS), default="All", required=True, key="order_group")
    found = queries.list_orders(session.session_id, _GROUPS[group or "All"], _LIMIT)
    if found.empty:
        layout.empty("No orders here", "An executed signal places an entry, a stop and three targets at once.")
        return
    _with_why(found, _ORDER_COLUMNS, "client_order_id", "orders", rows=16)
    paid = found["slippage_bps"].dropna()
    average = f" · average slippage {formats.bps(paid.mean())}" if len(paid) else ""
    shown = f"The newest {_LIMIT} orders" if len(found) == _LIMIT else f"{len(found)} orders"
    st.caption(f"{shown}{average}")


def _page() -> None:
    session = layout.session_or_empty()
    if session is None:
        return
    layout.trading_state(session)
    open_, closed, orders = st.tabs(
        ["Open", "Closed", "Orders"], key="positions_view", on_change="rerun", bind="query-params"
    )
    if open_.open:
        with open_:
            hand.controls(session)
            _open(session)
    if closed.open:
        with closed:
            _closed(session)
    if orders.open:
        with orders:
            _orders(session)


_page()
