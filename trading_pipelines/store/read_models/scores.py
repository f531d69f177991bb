"""Composite scores as people read them: the ranking, one score taken apart, its history, calibrations."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.composite import in_words
from trading_pipelines.domain.scoring.inputs import INPUTS
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec
from trading_pipelines.store.connection import read_frame

_FACTOR_OF = {each.name: (each.factor, each.meaning) for each in INPUTS}
# The newest row per instrument, unless it is so old that the instrument no longer trades.
_NEWEST = """
select i.symbol, s.available_at, s.score, s.confidence, s.coverage, s.known, s.consensus, s."values" as factors
from instruments i
cross join lateral (
    select * from composite_scores c
    where c.instrument_id = i.instrument_id and c.bar_minutes = %(minutes)s order by c.ts desc limit 1
) s
where i.exchange = %(exchange)s
  and s.available_at > (select max(available_at) from composite_scores c join instruments o using (instrument_id)
                        where o.exchange = %(exchange)s and c.bar_minutes = %(minutes)s) - interval '1 day'
order by (s.score = 'NaN'), s.score desc, i.symbol
"""
_HISTORY = """
select s.available_at, s.score, s.consensus, s.known, s."values" as factors
from composite_scores s join instruments i using (instrument_id)
where i.exchange = %(exchange)s and i.symbol = %(symbol)s and s.bar_minutes = %(minutes)s and s.ts >= %(since)s
order by s.ts
"""
_ONE = """
select s.available_at, s.score, s.confidence, s.coverage, s.consensus, s."values" as factors, s.ages, s.weights,
       s.contributions, d.spec, d.inputs, f.raw, f.mapped, f.ages as input_ages
from composite_scores s
join instruments i using (instrument_id)
join score_definitions d using (definition_id)
left join factor_values f using (instrument_id, bar_minutes, ts)
where i.exchange = %(exchange)s and i.symbol = %(symbol)s and s.bar_minutes = %(minutes)s
  and (%(ts)s::timestamptz is null or s.ts = %(ts)s::timestamptz)
order by s.ts desc limit 1
"""
_CALIBRATIONS = """
select calibration_id, made_at, exchange, timeframe, starts_at, ends_at, report from score_calibrations
where exchange = %(exchange)s order by made_at desc limit %(limit)s
"""


@dataclass(frozen=True)
class FactorPart:
    """One factor of a score; None where it is missing or stale."""

    factor: str
    value: float | None
    weight: float
    contribution: float
    age_minutes: float | None


@dataclass(frozen=True)
class InputPart:
    """One input of a factor; None where it is missing or stale."""

    name: str
    factor: str
    meaning: str
    raw: float | None
    mapped: float | None
    age_minutes: float | None


@dataclass(frozen=True)
class ScoreParts:
    """One score taken apart; `score` is None where too little was known."""

    symbol: str
    available_at: datetime
    score: float | None
    confidence: float | None
    coverage: float
    consensus: int
    factors: list[FactorPart]
    inputs: list[InputPart]
    words: list[str]


def newest_scores(connection: psycopg.Connection[Any], exchange: str, timeframe: str) -> pd.DataFrame:
    """The newest score of every symbol, the highest first; a column per factor, and what is missing in words."""
    frame = read_frame(connection, _NEWEST, {"exchange": exchange, "minutes": Timeframe(timeframe).minutes})
    return _with_factors(frame)


def score_history(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: str, since: datetime
) -> pd.DataFrame:
    """Scores of one symbol since then, ascending, a column per factor."""
    arguments = {"exchange": exchange, "symbol": symbol, "minutes": Timeframe(timeframe).minutes, "since": since}
    return _with_factors(read_frame(connection, _HISTORY, arguments))


def explain_score(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: str, ts: datetime | None = None
) -> ScoreParts | None:
    """The newest score of a symbol, or that of the bar that opened at `ts`; None where there is none."""
    arguments = {"exchange": exchange, "symbol": symbol, "minutes": Timeframe(timeframe).minutes, "ts": ts}
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_ONE, arguments).fetchone()
    if row is None:
        return None
    values, ages = _numbers(row["factors"]), _numbers(row["ages"])
    points = [float(c) for c in row["contributions"]]
    score = float(row["score"])
    words = in_words(
        score, values, ages, points, row["coverage"], row["consensus"], ScoringSpec.model_validate(row["spec"])
    )
    return ScoreParts(
        symbol=symbol,
        available_at=row["available_at"],
        score=score if isfinite(score) else None,
        confidence=float(row["confidence"]) if isfinite(row["confidence"]) else None,
        coverage=row["coverage"],
        consensus=row["consensus"],
        factors=[FactorPart(*part) for part in zip(FACTORS, values, row["weights"], points, ages, strict=True)],
        inputs=[
            InputPart(name, *_FACTOR_OF.get(name, ("", "")), *parts)
            for name, *parts in zip(
                row["inputs"], *(_numbers(row[c] or []) for c in ("raw", "mapped", "input_ages")), strict=False
            )
        ],
        words=words,
    )


def list_calibrations(connection: psycopg.Connection[Any], exchange: str, limit: int) -> list[dict[str, Any]]:
    """Calibrations, the newest first, with their reports."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_CALIBRATIONS, {"exchange": exchange, "limit": limit}).fetchall()


def _with_factors(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [_numbers(row) for row in frame.pop("factors")]
    columns = {name: pd.Series([row[i] for row in rows], dtype="float64") for i, name in enumerate(FACTORS)}
    missing = [", ".join(n for n, v in zip(FACTORS, row, strict=True) if v is None) for row in rows]
    return frame.assign(**columns, missing=missing)


def _numbers(values: list[float]) -> list[float | None]:
    return [float(value) if isfinite(value) else None for value in values]
