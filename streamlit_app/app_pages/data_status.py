"""Is the data complete and fresh, do the services live, how large has it all become."""

import formats
import layout
import pandas as pd
import queries
import streamlit as st
from layout import Card, Column

from trading_pipelines.store.read_models.status import PlatformStatus

layout.header(
    "Data status", "Freshness and completeness of the candles, heartbeats of the services, size of the database."
)

# Lag of the newest candle from which a symbol is called late.
_LATE_SECONDS = 20 * 60
_LIMIT = 200


def _newest_per_symbol(candles: pd.DataFrame) -> pd.DataFrame:
    newest = candles.groupby(["exchange", "symbol"], as_index=False)["closed_at"].max()
    return newest.rename(columns={"closed_at": "newest_candle"})


def _drill() -> Card:
    drill = queries.last_drill()
    if drill is None:
        return Card("Kill drill", formats.MISSING, "not done yet")
    flat = formats.MISSING if drill.flat_ms is None else f"flat in {formats.number(drill.flat_ms, 0)} ms"
    return Card(
        "Kill drill",
        formats.words(drill.outcome),
        flat,
        None if drill.outcome == "PASSED" else False,
        help=f"{formats.moment_utc(drill.started_at)} {formats.literal(drill.reason)}",
    )


@layout.live(5)
def _summary() -> None:
    layout.status_line()
    platform, sources = queries.platform_status(), queries.source_status()
    database = queries.database_size(12)
    newest = _newest_per_symbol(queries.newest_candles())
    lags = (pd.Timestamp(platform.now) - newest["newest_candle"]).dt.total_seconds()
    late = int((lags > _LATE_SECONDS).sum())
    per_symbol = sources.drop_duplicates(["exchange", "symbol"])
    gaps, quarantined = int(sources["open_gaps"].sum()), int(sources["quarantined"].sum())
    machine = queries.machine()
    layout.cards(
        [
            Card(
                "Fresh symbols",
                f"{len(newest) - late} of {len(per_symbol)}",
                f"{late} later than 20 min" if late else "none late",
                False if late else None,
            ),
            Card("Longest lag", formats.duration(lags.max()) if len(lags) else formats.MISSING),
            Card("Open gaps", str(gaps), f"{int(sources['missing_bars'].sum())} bars missing", False if gaps else None),
            Card("Quarantined", formats.number(quarantined, 0), "rows refused"),
            Card(
                "Database",
                formats.size(database.total_bytes),
                f"{database.connections} connection{'s' if database.connections != 1 else ''}",
                help=f"PostgreSQL {database.version}",
            ),
            _drill(),
            Card("CPU", formats.share(machine.cpu), f"{machine.cores} cores"),
            Card(
                "Memory",
                formats.share(machine.memory),
                f"{formats.size(machine.memory_used)} of {formats.size(machine.memory_total)}",
            ),
        ],
        min_width=145,
    )
    _services(platform)


_SERVICE_COLUMNS = (
    Column("service", "Service", kind="text", width=160),
    Column("state", "State", None, lambda state: False if state == "✗ silent" else None, kind="text"),
    Column("age_seconds", "Last heartbeat", lambda v: f"{formats.duration(v)} ago"),
    Column("running", "Running for", formats.duration),
    Column("detail", "Detail", formats.details, kind="text", width=620),
)


def _services(platform: PlatformStatus) -> None:
    st.subheader("Services", anchor=False)
    if platform.services.empty:
        layout.empty(
            "No service has reported yet", "`trading up` starts the fast service; it reports every few seconds."
        )
        return
    services = platform.services.copy()
    services["state"] = ["✗ silent" if layout.is_silent(age) else "✓ alive" for age in services["age_seconds"]]
    services["running"] = (pd.Timestamp(platform.now) - services["started_at"]).dt.total_seconds()
    layout.table(services, _SERVICE_COLUMNS, "services")


_SOURCE_COLUMNS = (
    Column("symbol", "Symbol", kind="text", pinned=True, width=100),
    Column("dataset", "Dataset", kind="text", width=110),
    Column("last_ts", "Newest row, UTC", formats.moment, kind="text", width=130, help="Of this dataset"),
    Column("newest_candle", "Newest candle closed, UTC", formats.moment, kind="text", width=165),
    Column("lag", "Lag", formats.duration, lambda v: False if v > _LATE_SECONDS else None),
    Column("fetched", "Last fetch", formats.duration, help="Since the last successful fetch"),
    Column("rows_written", "Rows", lambda v: formats.number(v, 0)),
    Column("rows_per_second", "Rows/s", formats.compact),
    Column("open_gaps", "Open gaps", lambda v: formats.number(v, 0), lambda v: False if v else None),
    Column("missing_bars", "Missing bars", lambda v: formats.number(v, 0)),
    Column("quarantined", "Quarantined", lambda v: formats.number(v, 0)),
    Column("exchange", "Exchange", kind="text", width=100),
    Column("source", "Source", kind="text", width=100),
    Column("failures", "Failures", lambda v: formats.number(v, 0)),
    Column("error_age", "Last error", formats.duration, help="Since the last error"),
    Column("last_error", "Error", kind="text", width=330),
)


@layout.live(5)
def _sources() -> None:
    now = pd.Timestamp(queries.platform_status().now)
    sources = queries.source_status()
    if sources.empty:
        layout.empty(
            "No instruments yet", "They appear with the first fill: `trading up`, or `trading ingest` by hand."
        )
        return
    newest = _newest_per_symbol(queries.newest_candles())
    shown = sources.merge(newest, on=["exchange", "symbol"], how="left")
    shown["lag"] = (now - shown["newest_candle"]).dt.total_seconds()
    shown["fetched"] = (now - shown["last_success_at"]).dt.total_seconds()
    shown["error_age"] = (now - shown["last_error_at"]).dt.total_seconds().where(shown["last_error"].notna())
    layout.table(shown, _SOURCE_COLUMNS, "sources", rows=14)


@layout.live(15)
def _timeframes() -> None:
    now = pd.Timestamp(queries.platform_status().now)
    candles = queries.newest_candles()
    if candles.empty:
        layout.empty(
            "No candles yet", "Every timeframe fills from the fetched one as soon as the first candles are stored."
        )
        return
    order = [t for t in ("1m", "5m", "15m", "1h", "4h", "1d") if t in set(candles["timeframe"])]
    candles["age"] = (now - candles["closed_at"]).dt.total_seconds()
    matrix = candles.pivot_table(index=["symbol", "exchange"], columns="timeframe", values="age").reset_index()
    columns = [Column("symbol", "Symbol", kind="text", pinned=True), Column("exchange", "Exchange", kind="text")]
    columns += [Column(t, t, formats.duration) for t in order]
    layout.table(matrix, columns, "timeframes", rows=14)
    st.caption("Time since the newest bar of each timeframe closed.")


_OUTSIDE_COLUMNS = (
    Column("source", "Source", kind="text", pinned=True, width=215),
    Column("state", "State", None, lambda state: False if state == "✗ failing" else None, kind="text", width=130),
    Column("seconds_since_success", "Last answer", formats.duration, help="Since it answered last"),
    Column("seconds_since_newest", "Newest item", formats.duration, help="Age of the newest item"),
    Column("items", "Items", lambda v: formats.number(v, 0)),
    Column("quarantined", "Refused", lambda v: formats.number(v, 0)),
    Column("consecutive_failures", "Failures in a row", lambda v: formats.number(v, 0)),
    Column("detail", "What to do", kind="text", width=480),
)
_REFUSED_COLUMNS = (
    Column("seen_at", "Seen, UTC", formats.moment, kind="text", width=130),
    Column("source", "Source", kind="text", width=150),
    Column("item", "Item", kind="text", width=150),
    Column("reason", "Reason", kind="text", width=260),
    Column("payload", "What came", kind="text", width=420),
)


@layout.live(15)
def _outside() -> None:
    found = queries.outside_sources()
    if found.empty:
        layout.empty(
            "No source has been asked yet", "`trading collect` asks all of them; the schedules do so every few minutes."
        )
        return
    states = {"OK": "✓ ok", "FAILING": "✗ failing", "NOT_CONFIGURED": "– not configured"}
    layout.table(found.assign(state=found["status"].map(states)), _OUTSIDE_COLUMNS, "outside", rows=12)
    st.markdown("**Refused items**")
    refused = queries.refused_items(_LIMIT)
    if refused.empty:
        layout.empty("Nothing was refused", "Items without a title or date, or with impossible numbers, appear here.")
    else:
        layout.table(refused, _REFUSED_COLUMNS, "refused", rows=8)


_GAP_COLUMNS = (
    Column("symbol", "Symbol", kind="text", width=100),
    Column("exchange", "Exchange", kind="text", width=100),
    Column("timeframe", "Timeframe", kind="text"),
    Column("verdict", "State", formats.words, lambda v: False if v == "open" else None, kind="text"),
    Column("gap_start", "From, UTC", formats.moment, kind="text", width=130),
    Column("gap_end", "Until, UTC", formats.moment, kind="text", width=130),
    Column("bars", "Bars", lambda v: formats.number(v, 0)),
    Column("detected_at", "Found, UTC", formats.moment, kind="text", width=130),
    Column("checked_at", "Asked again, UTC", formats.moment, kind="text", width=130),
    Column("asked", "Times", lambda v: formats.number(v, 0), help="How often the source was asked again"),
    Column("repaired_from", "Stands in", kind="text", width=110, help="Exchange whose candles stand in"),
)
_QUARANTINE_COLUMNS = (
    Column("seen_at", "Seen, UTC", formats.moment, kind="text", width=130),
    Column("source", "Source", kind="text", width=100),
    Column("symbol", "Symbol", kind="text", width=100),
    Column("timeframe", "Timeframe", kind="text"),
    Column("ts", "Bar, UTC", formats.moment, kind="text", width=130),
    Column("reason", "Reason", kind="text", width=200),
    Column("payload", "What came", kind="text", width=420),
)
_EVENT_COLUMNS = (
    Column("ts", "Time, UTC", lambda v: f"{v:%Y-%m-%d %H:%M:%S}", kind="text", width=150),
    Column("severity", "Severity", layout.severity, layout.by_severity, kind="text", width=95),
    Column("kind", "Event", formats.words, kind="text", width=150),
    Column("subject", "Subject", kind="text", width=150),
    Column("message", "Message", kind="text", width=480),
    Column("session", "Session", kind="text", width=120),
)
_TABLE_COLUMNS = (
    Column("table", "Table", kind="text", width=200),
    Column("bytes", "Size", formats.size, help="With indices"),
    Column("rows", "Rows, about", lambda v: formats.number(v, 0)),
)


@layout.live(3)
def _events() -> None:
    events = queries.list_events(_LIMIT)
    if events.empty:
        layout.empty("No events yet", "Fills, failures, signals and switches are written here as they happen.")
        return
    layout.table(events, _EVENT_COLUMNS, "events", rows=14)


def _gaps() -> None:
    gaps, quarantine = queries.list_gaps(_LIMIT), queries.list_quarantine(_LIMIT)
    st.markdown("**Gaps in the fetched candles**")
    if gaps.empty:
        layout.empty("No gaps", "Every bar that was asked for is stored.")
    else:
        layout.table(gaps, _GAP_COLUMNS, "gaps", rows=8)
        st.caption("Absent: the source was asked again and has no candle there itself.")
    st.markdown("**Rows in quarantine**")
    if quarantine.empty:
        layout.empty(
            "Nothing in quarantine", "Rows that break a rule (a high below the low, say) are kept here, not stored."
        )
    else:
        layout.table(quarantine, _QUARANTINE_COLUMNS, "quarantine", rows=8)


def _page() -> None:
    _summary()
    sources, outside, timeframes, gaps, events, tables = st.tabs(
        ["Sources", "Besides prices", "Timeframes", "Gaps and quarantine", "Events", "Tables"],
        key="data_view",
        on_change="rerun",
        bind="query-params",
    )
    if sources.open:
        with sources:
            _sources()
    if outside.open:
        with outside:
            _outside()
    if timeframes.open:
        with timeframes:
            _timeframes()
    if gaps.open:
        with gaps:
            _gaps()
    if events.open:
        with events:
            _events()
    if tables.open:
        with tables:
            layout.table(queries.database_size(12).tables, _TABLE_COLUMNS, "tables")


_page()
