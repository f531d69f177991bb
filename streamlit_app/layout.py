"""What all pages share: header, cards, tables, the choice of session, empty states and error states.

Text that came from outside (symbols, reasons, messages) reaches the page through tables, which show text as it
is, or through `formats.literal`.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import formats
import pandas as pd
import queries
import streamlit as st

from trading_pipelines.errors import UserError
from trading_pipelines.store.read_models.reader import DatabaseUnavailableError
from trading_pipelines.store.read_models.sessions import SessionSummary

_log = logging.getLogger(__name__)
_HEADER_PX, _ROW_PX = 34, 33
_DESK_PX, _GAP_PX = 1_050, 8
"""Width of the page beside the sidebar on a common screen, and the gap between two cards."""
_RETRY_SECONDS = 5
_STALE_AFTER = 60
"""Seconds without a heartbeat after which a service is called silent."""


# Digits of equal width stop numbers from jumping when they refresh; a stale element stays opaque and nothing says that
# the page is being read, for the same reason: it is, every other second.
_STYLE = """
<style>
[data-testid="stMetricValue"], [data-testid="stMetricDelta"], [data-testid="stCaptionContainer"]
    { font-variant-numeric: tabular-nums; }
[data-testid="stMetricLabel"] { opacity: .75; }
[data-testid="stMetric"] { padding: .55rem .8rem .6rem; }
[data-testid="stMetric"] > div { padding: 0; }
[data-testid="stMainBlockContainer"] { padding-left: 2rem; padding-right: 2rem; }
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stStatusWidget"] { display: none; }
@media (max-width: 640px) {
    [data-testid="stMainBlockContainer"] { padding-left: .8rem; padding-right: .8rem; }
}
</style>
"""


def page_style() -> None:
    """Add the few rules that the theme cannot express."""
    st.html(_STYLE)


def header(title: str, explanation: str) -> None:
    """Title and one line that says what the page answers."""
    with st.container(gap="xxsmall"):
        st.title(title, anchor=False)
        st.caption(explanation)


@contextmanager
def friendly_errors(*, part: bool = False) -> Iterator[None]:
    """Turn every failure into a sentence and what to do; the details go to the log.

    A live `part` repeats itself and says little; otherwise the page is drawn again once the database answers.
    """
    try:
        yield
    except DatabaseUnavailableError as error:
        _log.warning("database not reachable: %s", error)
        if part:
            st.error(
                f"{formats.literal(error)}. This part comes back by itself.",
                title="No connection to the database",
                icon=":material/database_off:",
            )
        else:
            _no_database(error)
    except UserError as error:
        st.error(formats.literal(error), title="A setting needs attention", icon=":material/settings_alert:")
    except Exception:
        _log.exception("a page could not be drawn")
        st.error(
            "Something on this page went wrong; the details are in the log of Streamlit. The other pages are not "
            "affected, and trading does not depend on this application.",
            title="This part could not be shown",
            icon=":material/error:",
        )


def _no_database(error: DatabaseUnavailableError) -> None:
    st.error(
        "The platform's database is not answering. Start it from the project's folder with the command below, or the "
        "whole platform with `trading up`.",
        title="No connection to the database",
        icon=":material/database_off:",
    )
    st.code("trading db start", language="bash")
    st.caption(f"{formats.literal(error)}. This page tries again every few seconds.")
    _draw_again_once_answered(time.monotonic())


@st.fragment(run_every=_RETRY_SECONDS)
def _draw_again_once_answered(failed_at: float) -> None:
    if time.monotonic() - failed_at < _RETRY_SECONDS / 2:
        return
    try:
        queries.platform_status()
    except UserError:
        return
    st.rerun()


def live(seconds: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Redraw a function's part of the page every so many seconds, and keep its failures inside that part."""

    def decorate(draw: Callable[..., None]) -> Callable[..., None]:
        @st.fragment(run_every=seconds)
        @functools.wraps(draw)
        def drawn(*args: Any, **kwargs: Any) -> None:
            with friendly_errors(part=True):
                draw(*args, **kwargs)

        return drawn

    return decorate


def empty(title: str, text: str) -> None:
    """Say that there is nothing yet, and what will change that."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.caption(text)


def choose_session(sessions: Sequence[SessionSummary]) -> None:
    """Offer the sessions in the sidebar; the choice is part of the address."""
    if not sessions:
        st.sidebar.caption("No trading session yet")
        return
    by_name = {session.name: session for session in _own_first(sessions)}
    chosen = st.sidebar.selectbox(
        "Session",
        list(by_name),
        key="session",
        bind="query-params",
        help="The paper session trades on the wall clock; a replay traded over stored candles.",
    )
    _describe(by_name[chosen])


def _own_first(sessions: Sequence[SessionSummary]) -> list[SessionSummary]:
    """The session that the settings name before all others."""
    own = queries.settings().session.name
    return sorted(sessions, key=lambda session: session.name != own)


def _describe(session: SessionSummary) -> None:
    lines = [f"{session.mode.capitalize()}, {session.status.lower()} · {session.exchange} · {session.timeframe}"]
    if session.first_mark and session.last_mark:
        until = "now" if session.clock is None else f"{session.last_mark:%Y-%m-%d}"
        lines.append(f"{session.first_mark:%Y-%m-%d} to {until} UTC")
    lines.append(f"{len(session.symbols)} symbols · start {formats.number(session.start_capital, 0)} USDT")
    st.sidebar.caption("  \n".join(formats.literal(line) for line in lines))


def current_session() -> SessionSummary | None:
    """The session chosen in the sidebar, None while there is none."""
    sessions = queries.list_sessions()
    chosen = st.session_state.get("session")
    return next((s for s in _own_first(sessions) if chosen in (None, s.name)), None)


def session_or_empty() -> SessionSummary | None:
    """The chosen session; says how to get one and returns None where there is none."""
    session = current_session()
    if session is None:
        empty(
            "No trading session yet",
            "The first one appears once `trading up` has filled the database. For a session over stored "
            "candles run `trading replay`.",
        )
    return session


def as_of(session: SessionSummary) -> datetime:
    """The session's present: its clock for a replay, the wall clock otherwise."""
    return session.clock or queries.utc_now()


@dataclass(frozen=True)
class Card:
    """One number with its name; `good` colours the change and None leaves it grey."""

    label: str
    value: str
    change: str | None = None
    good: bool | None = None
    help: str | None = None
    chart: Sequence[float] | None = None


def wall(count: int, min_width: int) -> Any:
    """A grid for that many cards, in rows of equal length on a desk and of as many as fit elsewhere."""
    rows = math.ceil(count * (min_width + _GAP_PX) / _DESK_PX)
    return st.grid(math.ceil(count / rows), min_column_width=min_width, gap="xsmall")


def cards(items: Sequence[Card], min_width: int = 155) -> None:
    """Draw cards in rows of equal length on a desk, and in two columns on a phone."""
    if not items:
        return
    with wall(len(items), min_width):
        for item in items:
            st.metric(
                item.label,
                item.value,
                item.change,
                delta_color="off" if item.good is None else "blue" if item.good else "orange",
                delta_arrow="off",
                help=item.help,
                border=True,
                height="stretch",
                chart_data=item.chart,
                chart_type="line",
            )


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    write : callable or None
        Turns a value into text; the column still sorts by the value itself. None leaves the value alone.
    tone : callable or None
        Says of a value whether it is good (True), bad (False) or neither (None).
    kind : str
        `text`, `number` (right-aligned), `spark` (a list drawn as a line) or `bar` (a share of 1 drawn as a bar).
    """

    name: str
    label: str
    write: Callable[[Any], str] | None = None
    tone: Callable[[Any], bool | None] | None = None
    kind: str = "number"
    help: str | None = None
    width: int | str | None = None
    pinned: bool = False


def by_sign(value: Any) -> bool | None:
    """A gain is good, a loss is bad."""
    return None if formats.missing(value) or value == 0 else value > 0


def by_score(value: Any) -> bool | None:
    """A composite score from 50 up is good."""
    return None if formats.missing(value) else value >= 50


def by_side(value: Any) -> bool | None:
    """Long and rising in the colour of gain, short and falling in the colour of loss."""
    return {"LONG": True, "BUY": True, "UP": True, "SHORT": False, "SELL": False, "DOWN": False}.get(value)


def severity(value: Any) -> str:
    """How serious an event is, with a mark that does without colour."""
    return {"critical": "✗ Critical", "warning": "! Warning"}.get(value, "Info")


def by_severity(value: Any) -> bool | None:
    """Warnings and worse are bad."""
    return False if value in ("critical", "warning") else None


def table(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    key: str,
    *,
    rows: int = 12,
    selectable: bool = False,
    selected: int | None = None,
) -> int | None:
    """Draw a table of at most `rows` visible rows; returns the selected row's number where rows can be selected."""
    shown = frame[[column.name for column in columns]]
    arguments: dict[str, Any] = {}
    if selectable:
        arguments = {"on_select": "rerun", "selection_mode": "single-row"}
        if selected is not None:
            arguments["selection_default"] = {"selection": {"rows": [selected]}}
    state = st.dataframe(
        _styled(shown, columns),
        column_config={column.name: _config(column) for column in columns},
        hide_index=True,
        placeholder=formats.MISSING,
        height=_HEADER_PX + _ROW_PX * min(max(len(shown), 1), rows) + 2,
        key=key,
        **arguments,
    )
    chosen = state["selection"]["rows"] if selectable else []
    return chosen[0] if chosen and chosen[0] < len(shown) else None


def _styled(frame: pd.DataFrame, columns: Sequence[Column]) -> Any:
    colours = formats.palette()
    styled = frame.style.format({column.name: column.write for column in columns if column.write})
    for column in columns:
        if column.tone is not None:
            styled = styled.map(
                functools.partial(_colour, column.tone, colours.gain, colours.loss), subset=[column.name]
            )
    return styled


def _colour(tone: Callable[[Any], bool | None], gain: str, loss: str, value: Any) -> str:
    good = tone(value)
    return "" if good is None else f"color: {gain if good else loss}"


def _config(column: Column) -> Any:
    if column.kind == "spark":
        return st.column_config.LineChartColumn(
            column.label, help=column.help, width=column.width, color=formats.palette().muted
        )
    if column.kind == "bar":
        return st.column_config.ProgressColumn(
            column.label, help=column.help, width=column.width, format="percent", min_value=0, max_value=1
        )
    return st.column_config.Column(
        column.label,
        help=column.help,
        width=column.width,
        pinned=column.pinned,
        alignment="right" if column.kind == "number" else "left",
    )


def updated(now: datetime) -> None:
    """Say when what is shown was read."""
    st.caption(f"Read at {now:%H:%M:%S} UTC")


@live(5)
def kill_banner() -> None:
    """A banner on every page while the kill switch is engaged."""
    try:
        platform = queries.platform_status()
    except DatabaseUnavailableError:
        st.warning("The state of the kill switch is unknown: the database is not answering.")
        return
    if platform.kill_engaged or queries.kill_file_exists():
        why = platform.kill_reason if platform.kill_engaged else "the KILL file exists in the data folder"
        since = f" Since {formats.moment_utc(platform.kill_changed_at)}." if platform.kill_engaged else ""
        st.error(
            f"No new orders are sent; open positions keep their stops. Reason: {formats.literal(why)}.{since} "
            "Release it with `trading kill off`.",
            title="Kill switch engaged",
            icon=":material/front_hand:",
        )


@live(3)
def trading_state(session: SessionSummary) -> None:
    """Say when a session sends no entries, and why."""
    if session.mode != "paper" or session.status == "STOPPED":
        return
    if session.status == "PAUSED":
        st.info("The session is paused: it opens nothing; what is open is managed as before.", icon=":material/pause:")
    truth = queries.account_truth(session.session_id)
    if truth is not None and not truth.allowed:
        since = "" if truth.since is None else f" Since {formats.moment_utc(truth.since)}."
        st.warning(
            f"No entry is sent: {formats.literal(truth.reason)}.{since} Open positions keep their stops.",
            title="Trading is held back",
            icon=":material/pause_circle:",
        )


def status_line() -> None:
    """Heartbeats and kill switch in one line of badges."""
    platform = queries.platform_status()
    engaged = platform.kill_engaged or queries.kill_file_exists()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.badge(
            "Kill switch on" if engaged else "Kill switch off",
            icon=":material/front_hand:" if engaged else ":material/check:",
            color="orange" if engaged else "gray",
        )
        if platform.services.empty:
            st.badge("No service is running", icon=":material/heart_broken:", color="orange")
        for service in platform.services.itertuples():
            silent = service.age_seconds > _STALE_AFTER
            st.badge(
                f"{formats.literal(service.service.replace('_', ' '))} {'silent for ' if silent else ''}"
                f"{formats.duration(service.age_seconds)}",
                icon=":material/heart_broken:" if silent else ":material/favorite:",
                color="orange" if silent else "blue",
                help=f"Last heartbeat {formats.moment_utc(service.ts)}",
            )
        st.caption(f"{platform.now:%Y-%m-%d %H:%M:%S} UTC", width="content")


def is_silent(age_seconds: float) -> bool:
    """Whether a heartbeat of that age means trouble."""
    return age_seconds > _STALE_AFTER
