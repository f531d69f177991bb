"""Signals, the set-ups that were refused, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.store.connection import read_frame

_SIGNALS = """
select s.signal_id::text as signal_id, i.symbol, s.timeframe, s.ts, s.created_at, s.valid_until, s.side, s.status,
       s.status_reason, s.entry_price, s.stop_price, s.tp1_price, s.tp2_price, s.tp3_price, s.confidence,
       s.risk_reward, s.net_profit, s.expected_value, s.leverage,
       (p.realised_pnl + p.unrealised_pnl - p.fees - p.funding)::float8 as result
from signals s
join instruments i using (instrument_id)
left join positions p on p.session_id = s.session_id and p.signal_id = s.signal_id
where s.session_id = %(session)s
  and (%(symbols)s::text[] is null or i.symbol = any(%(symbols)s))
  and (%(sides)s::text[] is null or s.side = any(%(sides)s))
  and (%(statuses)s::text[] is null or s.status = any(%(statuses)s))
  and s.confidence >= %(min_confidence)s
order by s.created_at desc, s.confidence desc
limit %(limit)s
"""


def list_signals(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    *,
    symbols: Sequence[str] | None = None,
    sides: Sequence[str] | None = None,
    statuses: Sequence[str] | None = None,
    min_confidence: float = 0.0,
    limit: int = 500,
) -> pd.DataFrame:
    """Signals of a session, newest first; a filter that is None lets everything through.

    `result` is the net result so far of the signal's position in quote currency, null without a position.
    """
    parameters = {
        "session": session_id,
        "symbols": None if symbols is None else list(symbols),
        "sides": None if sides is None else list(sides),
        "statuses": None if statuses is None else list(statuses),
        "min_confidence": min_confidence,
        "limit": limit,
    }
    return read_frame(connection, _SIGNALS, parameters)


@dataclass(frozen=True)
class SignalDetail:
    """Everything that explains one signal.

    Attributes
    ----------
    signal : dict
        The row of `signals` with the symbol; profits and cost are fractions of notional.
    gates : DataFrame
        name, value, threshold, passed of every gate at the moment of decision.
    factors : DataFrame
        name and weight of what drove the prediction, the strongest first.
    """

    signal: dict[str, Any]
    gates: pd.DataFrame
    factors: pd.DataFrame


_DETAIL = """
select s.*, i.symbol, d.gates, d.decided_at
from signals s
join instruments i using (instrument_id)
join decisions d using (session_id, instrument_id, timeframe, ts, strategy)
where s.signal_id = %s
"""


def signal_detail(connection: psycopg.Connection[Any], signal_id: UUID) -> SignalDetail | None:
    """The signal with its gates and factors, None when there is no such signal."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_DETAIL, (signal_id,)).fetchone()
    if row is None:
        return None
    gates = pd.DataFrame(row.pop("gates"), columns=["name", "value", "threshold", "passed"])
    strongest = sorted(row.pop("factors").items(), key=lambda factor: -abs(factor[1]))
    return SignalDetail(row, gates, pd.DataFrame(strongest, columns=["name", "weight"]))


_COUNTS = """
select outcome, reason, count(*) as decisions
from decisions
where session_id = %(session)s and ts >= %(since)s
group by 1, 2
order by 3 desc
"""

# Reading the gates of every refusal of a year would take seconds; the newest ones give the usual numbers.
_GATE_NUMBERS = """
with recent as (
    select reason, gates from decisions
    where session_id = %(session)s and ts >= %(since)s and outcome = 'REJECTED'
    order by ts desc limit 2000
), refused as (
    select reason, jsonb_path_query_first(
               gates, '$[*] ? (@.name == $reason)', jsonb_build_object('reason', reason)) as gate
    from recent
)
select reason,
       percentile_cont(0.5) within group (order by (gate ->> 'value')::float8) as median_value,
       max((gate ->> 'threshold')::float8) as threshold
from refused
group by 1
"""


def decision_counts(connection: psycopg.Connection[Any], session_id: UUID, since: datetime) -> pd.DataFrame:
    """How many bars since `since` gave a signal or were refused, per reason.

    Returns
    -------
    DataFrame
        outcome, reason, decisions, share (fraction of all), median_value and threshold of the refusing gate (from
        the newest 2000 refusals; null where the gate measures nothing).
    """
    parameters = {"session": session_id, "since": since}
    counts = read_frame(connection, _COUNTS, parameters)
    numbers = read_frame(connection, _GATE_NUMBERS, parameters)
    counts["share"] = counts["decisions"] / max(counts["decisions"].sum(), 1)
    return counts.merge(numbers, on="reason", how="left")


_DECISIONS = """
select d.decided_at, d.ts, i.symbol, d.timeframe, d.outcome, d.reason, d.side, d.confidence,
       (g.gate ->> 'value')::float8 as value, (g.gate ->> 'threshold')::float8 as threshold,
       (select string_agg(failed ->> 'name', ', ') from jsonb_array_elements(d.gates) failed
        where not (failed ->> 'passed')::boolean) as failed_gates
from decisions d
join instruments i using (instrument_id)
cross join lateral (
    select jsonb_path_query_first(
        d.gates, '$[*] ? (@.name == $reason)', jsonb_build_object('reason', d.reason)) as gate
) g
where d.session_id = %(session)s and d.ts >= %(since)s
  and (%(outcome)s::text is null or d.outcome = %(outcome)s)
  and (%(reason)s::text is null or d.reason = %(reason)s)
  and (%(symbols)s::text[] is null or i.symbol = any(%(symbols)s))
order by d.ts desc, i.symbol
limit %(limit)s
"""


def list_decisions(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    since: datetime,
    *,
    outcome: str | None = None,
    reason: str | None = None,
    symbols: Sequence[str] | None = None,
    limit: int = 500,
) -> pd.DataFrame:
    """Decisions since `since`, newest first, with the number and the threshold that decided.

    `failed_gates` names every gate that was not passed, not only the one that gave the reason.
    """
    parameters = {
        "session": session_id,
        "since": since,
        "outcome": outcome,
        "reason": reason,
        "symbols": None if symbols is None else list(symbols),
        "limit": limit,
    }
    return read_frame(connection, _DECISIONS, parameters)


_NEWEST_DECISION = "select max(ts) from decisions where session_id = %s"


def newest_decision(connection: psycopg.Connection[Any], session_id: UUID) -> datetime | None:
    """Open time of the newest bar that was decided on, None before the first decision."""
    row = connection.execute(_NEWEST_DECISION, (session_id,)).fetchone()
    return None if row is None else row[0]
