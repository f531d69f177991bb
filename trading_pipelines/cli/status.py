"""`trading status`: what runs, how fresh the data is, whether trading is stopped."""

import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.features import REBUILD, STALE
from trading_pipelines.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from trading_pipelines.settings import Settings
    from trading_pipelines.store.read_models.sessions import SessionSummary

STALE_AFTER_S = 30.0
"""A service without a heartbeat for so long is taken for dead."""
_PROTECTION = ("positions", "covered", "gaps_24h", "seconds_bare_24h")


def status(
    alive: Annotated[
        str | None,
        typer.Option(metavar="SERVICE", help="Only exit with 1 unless this service has shown life just now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the state of the platform; starts nothing."""
    from trading_pipelines.services.supervisor import running_process

    settings = prepare()
    found: dict[str, Any] = {"platform": {"process": running_process(settings), "data_dir": settings.data_dir}}
    found |= _database(settings)
    if alive is not None:
        ages = {service["service"]: service["age_seconds"] for service in found.get("services", [])}
        raise typer.Exit(0 if ages.get(alive, STALE_AFTER_S) < STALE_AFTER_S else 1)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _database(settings: "Settings") -> dict[str, Any]:
    import psycopg

    from trading_pipelines.errors import UserError
    from trading_pipelines.store.connection import connect, resolve_url
    from trading_pipelines.store.migrate import pending
    from trading_pipelines.store.read_models.parity import newest_reports
    from trading_pipelines.store.read_models.positions import protection
    from trading_pipelines.store.read_models.sessions import list_sessions
    from trading_pipelines.store.read_models.stale import changes_to_follow, stale_data
    from trading_pipelines.store.read_models.status import newest_candles, platform_status, source_status
    from trading_pipelines.store.read_models.watch import account_truth, last_drill

    try:
        url = resolve_url(settings)
        missing = pending(url)
        if missing:
            return {"database": {"running": True, "pending_migrations": missing}}
        with connect(url, application_name="status") as connection:
            state = platform_status(connection)
            drill = last_drill(connection)
            sessions = list_sessions(connection)
            sources = source_status(connection)
            truths = {s.name: account_truth(connection, s.session_id) for s in sessions if s.mode != "replay"}
            return {
                "database": {"running": True, "pending_migrations": []},
                "kill_switch": {"engaged": state.kill_engaged, "reason": state.kill_reason},
                "kill_drill": None if drill is None else vars(drill),
                "refused": {
                    name: truth.reason
                    for name, truth in truths.items()
                    if truth is not None and not truth.allowed and _is_live(sessions, name)
                },
                "protection": {
                    s.name: _records(protection(connection, s.session_id, state.now), *_PROTECTION)[0]
                    for s in sessions
                    if s.mode != "replay" and s.status != "STOPPED"
                },
                "parity": [vars(report) for report in newest_reports(connection)],
                "services": _records(state.services, "service", "age_seconds", "started_at"),
                "candles": _freshness(newest_candles(connection)),
                "sources": _sources(sources),
                "problems": _problems(sources),
                "stale": [vars(waiting) for waiting in stale_data(connection)],
                "changes_to_follow": changes_to_follow(connection),
                "sessions": [
                    {"name": s.name, "mode": s.mode, "status": s.status, "exchange": s.exchange, "clock": s.clock}
                    for s in sessions
                ],
            }
    except (UserError, psycopg.Error) as error:
        return {"database": {"running": False, "reason": str(error).strip()}}


def _is_live(sessions: "Sequence[SessionSummary]", name: str) -> bool:
    return any(session.name == name and session.status != "STOPPED" for session in sessions)


def _records(frame: "pd.DataFrame", *columns: str) -> list[dict[str, Any]]:
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return [{name: row[name] for name in columns} for row in rows]


_TOLD = ("source", "exchange", "symbol", "dataset", "last_ts", "lag_seconds", "last_success_at")
_COUNTED = ("open_gaps", "missing_bars", "quarantined", "failures", "failures_in_a_row", "rows_written")
_LAST = ("rows_per_second", "last_error", "last_error_at")


def _sources(sources: "pd.DataFrame") -> list[dict[str, Any]]:
    """Per symbol and dataset of each source: newest row and its lag, gaps, refused rows, failures and speed."""
    asked = sources[sources["source"].notna()].astype(dict.fromkeys(_COUNTED, "int64"))
    known = asked.astype(object).where(asked.notna(), None)
    return _records(known, *_TOLD, *_COUNTED, *_LAST)


def _by_dataset(sources: "Sequence[dict[str, Any]]") -> list[tuple[Any, ...]]:
    """The same over all symbols: how many, the newest row, the longest lag, sums, and the usual speed."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in sources:
        groups.setdefault((row["source"], row["exchange"], row["dataset"]), []).append(row)
    return [
        (
            *key,
            len(rows),
            max((row["last_ts"] for row in rows if row["last_ts"] is not None), default=None),
            max((row["lag_seconds"] / 60 for row in rows if row["lag_seconds"] is not None), default=None),
            *(sum(row[name] for row in rows) for name in ("missing_bars", "quarantined", "failures")),
            _middle([row["rows_per_second"] for row in rows if row["rows_per_second"] is not None]),
        )
        for key, rows in sorted(groups.items())
    ]


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _freshness(newest: "pd.DataFrame") -> list[dict[str, Any]]:
    """Per exchange and timeframe: the closes of the first and of the last symbol, and how late the last one is."""
    now = datetime.now(UTC)
    closes: dict[tuple[str, str], list[datetime]] = {}
    for row in _records(newest, "exchange", "timeframe", "closed_at"):
        closes.setdefault((row["exchange"], row["timeframe"]), []).append(row["closed_at"].to_pydatetime())
    return [
        {
            "exchange": exchange,
            "timeframe": timeframe,
            "symbols": len(found),
            "newest_close": max(found),
            "oldest_close": min(found),
            "lag_seconds": (now - min(found)).total_seconds(),
        }
        for (exchange, timeframe), found in closes.items()
    ]


def _problems(sources: "pd.DataFrame") -> list[dict[str, Any]]:
    rows = _records(sources, "exchange", "symbol", "dataset", "last_error", "last_error_at")
    return [row for row in rows if isinstance(row["last_error"], str)]


def _show(found: dict[str, Any]) -> None:
    process = found["platform"]["process"]
    typer.echo(f"platform   {f'running (process {process})' if process else 'not running: `trading up` starts it'}")
    database = found["database"]
    typer.echo(f"database   {'running' if database['running'] else 'not running'}")
    if database.get("pending_migrations"):
        typer.echo(f"           lacks {', '.join(database['pending_migrations'])}: run `trading db migrate`")
    if "kill_switch" not in found:
        return
    switch = found["kill_switch"]
    typer.echo(f"kill       {'ENGAGED: ' + switch['reason'] if switch['engaged'] else 'released'}")
    drill = found["kill_drill"]
    if drill is not None:
        flat = "" if drill["flat_ms"] is None else f", flat after {drill['flat_ms']:,.0f} ms"
        typer.echo(
            f"drill      {drill['outcome'].lower()} {drill['started_at']:%Y-%m-%d %H:%M} UTC{flat}{drill['reason']}"
        )
    for name, reason in found["refused"].items():
        typer.echo(f"{name:<10} trades nothing new: {reason}")
    for name, held in found["protection"].items():
        typer.echo(_protection_line(name, held))
    for report in found["parity"]:
        typer.echo(_parity_line(report))
    for line in _stale_lines(found):
        typer.echo(line)
    services = [
        (s["service"], "alive" if s["age_seconds"] < STALE_AFTER_S else "silent", s["age_seconds"])
        for s in found["services"]
    ]
    print_table("Services", ("service", "state", "seconds ago"), services)
    candles = [
        (c["exchange"], c["timeframe"], c["symbols"], c["newest_close"], c["lag_seconds"] / 60)
        for c in found["candles"]
    ]
    print_table("Newest candles", ("exchange", "timeframe", "symbols", "closed", "lag (min)"), candles)
    columns = (
        "source",
        "exchange",
        "dataset",
        "symbols",
        "newest",
        "lag (min)",
        "missing",
        "refused",
        "failed",
        "rows/s",
    )
    print_table("Sources", columns, _by_dataset(found["sources"]))
    print_table(
        "Source errors", ("exchange", "symbol", "dataset", "error"), [tuple(p.values())[:4] for p in found["problems"]]
    )
    print_table(
        "Sessions", ("name", "mode", "status", "exchange", "clock"), [tuple(s.values()) for s in found["sessions"]]
    )


def _stale_lines(found: dict[str, Any]) -> "Iterator[str]":
    """What was computed before its inputs were corrected or arrived, and what rebuilds it."""
    for s in found["stale"]:
        days, symbols = f"{s['days']:,} days", f"{s['symbols']} symbols"
        reason = "; ".join(s["causes"][:2]) + (" and others" if len(s["causes"]) > 2 else "")
        yield f"stale      {s['dataset']} of {s['exchange']}, {days}, {symbols}: {reason}; `{REBUILD}`"
    if found["changes_to_follow"]:
        yield f"changed    {found['changes_to_follow']:,} inputs since they were read: `{STALE}` says what is stale"


def _protection_line(session: str, held: dict[str, Any]) -> str:
    """How many of the open positions are protected entirely, and whether that was ever otherwise of late."""
    gaps = "no gap" if not held["gaps_24h"] else f"{held['gaps_24h']} GAPS, {held['seconds_bare_24h']:,.0f} s bare,"
    state = "protected" if held["covered"] == held["positions"] else "UNPROTECTED"
    return f"positions  {session}: {held['covered']} of {held['positions']} {state}, {gaps} in 24 h"


def _parity_line(report: dict[str, Any]) -> str:
    """What the newest comparison of a session with a replay has found."""
    bps = "" if report["price_bps_mean"] is None else f", fills {report['price_bps_mean']:+.1f} bps against the model"
    others = "".join(f", {report[name]} {name}" for name in ("late", "missed") if report[name])
    if report["diverged"]:
        return f"parity     {report['session']} {report['day']}: {report['diverged']} DIVERGED, first {report['first']}"
    return f"parity     {report['session']} {report['day']}: {report['equal']} decisions equal{others}{bps}"
