"""What a person does by hand: dialogs that ask for confirmation, write an instruction down and show what came of it.

The pages themselves stay read-only; everything here goes through `store.actions`.
"""

import time
from typing import Any
from uuid import UUID, uuid4

import formats
import pandas as pd
import queries
import streamlit as st

from trading_pipelines.errors import UserError
from trading_pipelines.store.actions import instruct, stop_trading
from trading_pipelines.store.read_models.sessions import SessionSummary

_WAIT_S = 6.0
_LOOK_S = 0.25
_ACTIONS = ("Close", "Move stop", "Move target")


def can_trade(session: SessionSummary) -> bool:
    """Whether anything can be asked of a session: a replay and a stopped session are over."""
    return session.mode == "paper" and session.status != "STOPPED"


def controls(session: SessionSummary) -> None:
    """The buttons above the open positions."""
    if not can_trade(session):
        return
    paused = session.status != "RUNNING"
    with st.container(horizontal=True, gap="xsmall"):
        st.button("Open a trade", icon=":material/add:", key="hand_open", disabled=paused, **_asking("open"))
        st.button("Change a position", icon=":material/edit:", key="hand_change", **_asking("change"))
        st.button("Stop all trading", icon=":material/front_hand:", key="hand_kill", **_asking("kill"))
    match st.session_state.get("hand_dialog"):
        case "open":
            _open(session)
        case "change":
            _change(session)
        case "kill":
            _kill()
        case _:
            pass


def stop_control(session: SessionSummary) -> None:
    """The button that engages the kill switch, alone."""
    if not can_trade(session):
        return
    st.button("Stop all trading", icon=":material/front_hand:", key="hand_kill", **_asking("kill"))
    if st.session_state.get("hand_dialog") == "kill":
        _kill()


def session_controls(session: SessionSummary) -> None:
    """The buttons that start, pause and stop a session."""
    if not can_trade(session):
        st.caption(f"{formats.literal(session.name)} is over; its results stay.")
        return
    running = session.status == "RUNNING"
    with st.container(horizontal=True, gap="xsmall"):
        st.button("Start", icon=":material/play_arrow:", key="session_start", disabled=running, **_asking("start"))
        st.button("Pause", icon=":material/pause:", key="session_pause", disabled=not running, **_asking("pause"))
        st.button("Stop", icon=":material/stop:", key="session_stop", **_asking("stop"))
    if (action := st.session_state.get("hand_dialog")) in ("start", "pause", "stop"):
        _change_session(session, action)


def _asking(dialog: str) -> dict[str, Any]:
    """Let a button open a dialog, which stays until it is dismissed, whatever else redraws the page."""
    return {"on_click": _ask, "args": (dialog,)}


def _ask(dialog: str) -> None:
    st.session_state["hand_dialog"] = dialog
    st.session_state["hand_key"] = uuid4().hex


def _dismissed() -> None:
    st.session_state.pop("hand_dialog", None)


@st.dialog("Open a trade", on_dismiss=_dismissed)
def _open(session: SessionSummary) -> None:
    symbol = st.selectbox("Symbol", session.symbols, key="hand_symbol")
    sides = ["LONG", "SHORT"] if session.direction == "BOTH" else [session.direction]
    side = st.segmented_control(
        "Side", sides, default=sides[0], required=True, format_func=formats.side, key="hand_side"
    )
    quote = queries.current_price(session.exchange, symbol)
    st.caption(f"Newest price {formats.price(quote)}")
    share = st.slider("Share of the full risk per trade", 5, 100, 100, 5, format="%d %%", key="hand_size")
    own = st.toggle("Name a stop myself", key="hand_own_stop", help="Otherwise one ATR from the price")
    arguments: dict[str, Any] = {"symbol": symbol, "side": side, "size": share / 100}
    if own:
        arguments["stop"] = st.number_input("Stop", min_value=0.0, value=quote, format="%g", key="hand_stop")
    st.caption(
        "The entry goes out at the market with its stop and three targets. The risk rules decide the quantity and may "
        "refuse it."
    )
    _confirm(session, "OPEN", arguments, "Send the order")


@st.dialog("Change a position", on_dismiss=_dismissed)
def _change(session: SessionSummary) -> None:
    held = queries.open_positions(session.session_id)
    if held.empty:
        st.markdown("There is no open position.")
        return
    names = {_name(row): row for _, row in held.iterrows()}
    position = names[st.selectbox("Position", list(names), key="hand_position")]
    action = st.segmented_control("What to do", _ACTIONS, default="Close", required=True, key="hand_action")
    arguments: dict[str, Any] = {"symbol": position["symbol"], "position_id": position["position_id"]}
    if action == "Close":
        share = st.slider("Part of what is open", 5, 100, 100, 5, format="%d %%", key="hand_share")
        quantity = formats.quantity(position["quantity_open"] * share / 100)
        st.markdown(f"About {quantity} of {formats.literal(position['symbol'])} are closed at the market.")
        _confirm(session, "CLOSE", {**arguments, "share": share / 100}, "Close at the market")
    elif action == "Move stop":
        price = _price("New stop", position["stop_price"], position["mark_price"])
        st.caption("All that is open is closed once the price gets there; trailing goes on from the new stop.")
        _confirm(session, "STOP", {**arguments, "price": price}, "Move the stop")
    else:
        number = st.segmented_control("Target", [1, 2, 3], default=3, required=True, key="hand_number")
        price = _price("New target", position[f"tp{number}_price"], position["mark_price"])
        _confirm(session, "TARGET", {**arguments, "price": price, "number": number}, "Move the target")


@st.dialog("Change the session", on_dismiss=_dismissed)
def _change_session(session: SessionSummary, action: str) -> None:
    arguments: dict[str, Any] = {"action": action}
    name = formats.literal(session.name)
    if action == "start":
        st.markdown(f"{name} opens positions again when its strategies give signals.")
    elif action == "pause":
        st.markdown(f"{name} opens nothing more. Open positions keep their stops and are managed as before.")
    else:
        st.markdown(f"{name} stops for good; its results stay. A stopped session cannot be started again.")
        arguments["flatten"] = st.toggle("Close everything that is open at the market", key="session_flatten")
    _confirm(session, "SESSION", arguments, f"{action.capitalize()} {session.name}")


@st.dialog("Stop all trading", on_dismiss=_dismissed)
def _kill() -> None:
    st.markdown(
        "No session sends a new order from now on, and waiting entries are cancelled. Stops and targets stay. It takes "
        "`trading kill off` on the command line to trade again."
    )
    flatten = st.toggle("Also close every open position at the market", key="kill_flatten")
    if st.button("Stop all trading now", type="primary", key="kill_confirm"):
        try:
            stop_trading(queries.settings(), "stopped from the dashboard", flatten=flatten)
        except UserError as error:
            st.error(formats.literal(error))
        else:
            st.success("The kill switch is engaged.")


def _confirm(session: SessionSummary, kind: str, arguments: dict[str, Any], label: str) -> None:
    """The button that sends; pressed twice it is still one instruction."""
    if not st.button(label, type="primary", key="hand_confirm"):
        return
    try:
        instruction_id = instruct(queries.settings(), session.session_id, kind, arguments, st.session_state["hand_key"])
    except UserError as error:
        st.error(formats.literal(error))
        return
    with st.spinner("The fast service carries it out"):
        _show_outcome(instruction_id)


def _show_outcome(instruction_id: UUID) -> None:
    limit = time.monotonic() + _WAIT_S
    state = queries.instruction_state(instruction_id)
    while state is not None and state.status == "PENDING" and time.monotonic() < limit:
        time.sleep(_LOOK_S)
        state = queries.instruction_state(instruction_id)
    if state is None or state.status == "PENDING":
        st.warning("Not carried out yet: is the fast service running? It expires by itself.")
    elif state.status == "DONE":
        st.success(formats.literal((state.outcome or "done").capitalize()))
    else:
        st.error(f"{formats.words(state.status)}: {formats.literal(state.outcome)}")
    queries.forget()


def _name(position: pd.Series) -> str:
    return f"{position['symbol']} {str(position['side']).lower()} {formats.quantity(position['quantity_open'])}"


def _price(label: str, current: Any, mark: float) -> float:
    value = mark if formats.missing(current) else current
    st.caption(f"Now {formats.price(current)}; price {formats.price(mark)}")
    return st.number_input(label, min_value=0.0, value=float(value), format="%g", key="hand_price")
