"""The read models behind a short cache, shared by all viewers.

One function per question. The time to live is at most the pace at which a page refreshes itself, so the number
of viewers does not multiply the queries.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import pandas as pd
import psutil
import streamlit as st

from trading_pipelines.settings import Settings, SourceName, load_settings
from trading_pipelines.settings_listing import SettingLine, list_settings
from trading_pipelines.store.read_models import (
    analysis,
    backtests,
    chart,
    flows,
    lineage,
    market,
    models,
    performance,
    positions,
    prediction_markets,
    reader,
    replay,
    risk,
    scores,
    sentiment,
    sessions,
    signals,
    sources,
    status,
    training,
    universe,
    watch,
)

P = ParamSpec("P")
R = TypeVar("R")

LIVE = 1.5
"""Seconds: what a trader watches."""
CALM = 8
"""Seconds: what changes with a bar."""
SLOW = 60
"""Seconds: sums over a whole session."""


@st.cache_resource(show_spinner=False)
def _settings() -> Settings:
    return load_settings()


def settings() -> Settings:
    """The platform's settings, for what is written (`store.actions`)."""
    return _settings()


def setting_lines() -> list[SettingLine]:
    """Every setting that this process has read, secrets masked."""
    return list_settings(_settings())


def forget() -> None:
    """Read everything anew, after something was changed."""
    st.cache_data.clear()


@contextmanager
def _connection() -> Iterator[Any]:
    with reader.read_only(_settings()) as connection:
        yield connection


def _cached(read: Callable[Concatenate[Any, P], R], ttl: float, most: int | None = None) -> Callable[P, R]:
    """A read model asked over a connection of its own; an answer is kept for `ttl` seconds, at most so many of them."""

    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        with _connection() as connection:
            return read(connection, *args, **kwargs)

    # The cache knows a function by its name.
    ask.__module__, ask.__qualname__ = read.__module__, read.__qualname__
    return st.cache_data(ttl=ttl, show_spinner=False, max_entries=most)(ask)


list_sessions = _cached(sessions.list_sessions, CALM)
list_exchanges = _cached(market.list_exchanges, SLOW)
list_symbols = _cached(market.list_symbols, SLOW)
market_overview = _cached(market.market_overview, LIVE)


@st.cache_data(ttl=CALM, show_spinner=False)
def market_indices(simulated: bool) -> dict[str, market.MarketIndex]:
    with _connection() as connection:
        return market.market_indices(connection, utc_now(), simulated=simulated)


newest_technical_signals = _cached(analysis.newest_technical_signals, CALM)
ranked_days = _cached(analysis.ranked_days, SLOW)
ranking = _cached(analysis.ranking, SLOW, 50)
list_anomalies = _cached(analysis.list_anomalies, CALM, 50)


@st.cache_data(ttl=CALM, show_spinner=False)
def newest_sentiment(simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return sentiment.newest_sentiment(connection, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def sentiment_history(coin: str, since: datetime, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return sentiment.sentiment_history(connection, coin, since, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def coin_texts(coin: str, since: datetime, limit: int, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return sentiment.coin_texts(connection, coin, since, limit, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False)
def sentiment_turns(limit: int, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return sentiment.sentiment_turns(connection, limit, simulated=simulated)


newest_scores = _cached(scores.newest_scores, LIVE)
explain_score = _cached(scores.explain_score, CALM, 50)
score_history = _cached(scores.score_history, CALM, 50)
platform_status = _cached(status.platform_status, LIVE)


def kill_file_exists() -> bool:
    """Whether the kill switch's file is there; unreadable counts as engaged."""
    try:
        return (_settings().data_dir / "KILL").exists()
    except OSError:
        return True


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=200)
def list_signals(
    session_id: UUID,
    symbols: tuple[str, ...] | None = None,
    sides: tuple[str, ...] | None = None,
    statuses: tuple[str, ...] | None = None,
    min_confidence: float = 0.0,
    limit: int = 500,
) -> pd.DataFrame:
    with _connection() as connection:
        return signals.list_signals(
            connection,
            session_id,
            symbols=symbols,
            sides=sides,
            statuses=statuses,
            min_confidence=min_confidence,
            limit=limit,
        )


signal_detail = _cached(signals.signal_detail, CALM, 200)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def trade_chain(id_: str) -> dict[str, Any] | None:
    with _connection() as connection:
        return lineage.chain(connection, id_, _settings().sentiment.aggregation)


newest_decision = _cached(signals.newest_decision, CALM)
decision_counts = _cached(signals.decision_counts, SLOW, 50)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def list_decisions(
    session_id: UUID,
    since: datetime,
    outcome: str | None,
    reason: str | None,
    symbols: tuple[str, ...] | None,
    limit: int,
) -> pd.DataFrame:
    with _connection() as connection:
        return signals.list_decisions(
            connection, session_id, since, outcome=outcome, reason=reason, symbols=symbols, limit=limit
        )


candle_span = _cached(chart.candle_span, CALM, 100)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def candles(
    exchange: str,
    symbol: str,
    timeframe: str,
    start: datetime,
    end: datetime,
    ema_spans: tuple[int, ...],
    indicators: bool,
) -> pd.DataFrame:
    with _connection() as connection:
        return chart.candles(connection, exchange, symbol, timeframe, start, end, ema_spans, indicators=indicators)


signal_marks = _cached(chart.signal_marks, CALM, 50)
fill_marks = _cached(chart.fill_marks, CALM, 50)
session_bars = _cached(replay.session_bars, CALM, 20)
open_positions = _cached(positions.open_positions, LIVE)
closed_positions = _cached(positions.closed_positions, CALM, 20)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def list_orders(session_id: UUID, statuses: tuple[str, ...] | None, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return positions.list_orders(connection, session_id, list(statuses) if statuses else None, limit)


account = _cached(performance.account, CALM, 20)
performance_report = _cached(performance.performance_report, SLOW, 20)
list_versions = _cached(models.list_versions, SLOW, 20)
training_progress = _cached(training.training_progress, LIVE, 10)
importance = _cached(models.importance, SLOW, 50)
explained_signals = _cached(models.explained_signals, SLOW, 50)
model_drift = _cached(models.drift, SLOW, 20)
feature_drift = _cached(models.feature_drift, SLOW, 50)
version_metrics = _cached(models.version_metrics, SLOW, 50)
version_folds = _cached(models.version_folds, SLOW, 50)
calibration = _cached(models.calibration, SLOW, 50)
list_backtests = _cached(backtests.list_backtests, CALM, 20)
backtest = _cached(backtests.backtest, CALM, 50)
backtest_curve = _cached(backtests.curve, SLOW, 20)
backtest_trades = _cached(backtests.trades, SLOW, 20)
list_searches = _cached(backtests.list_searches, CALM, 20)
search_trials = _cached(backtests.trials, SLOW, 20)
outside_sources = _cached(sources.outside_sources, LIVE)
refused_items = _cached(sources.refused_items, LIVE)
source_status = _cached(status.source_status, LIVE)
newest_candles = _cached(status.newest_candles, CALM)
compare_sessions = _cached(sessions.compare_sessions, CALM)
account_truth = _cached(watch.account_truth, LIVE, 50)
list_instructions = _cached(watch.list_instructions, LIVE, 50)
list_discrepancies = _cached(watch.list_discrepancies, LIVE, 50)
risk_state = _cached(risk.risk_state, LIVE, 50)
locks_in_force = _cached(risk.locks_in_force, LIVE, 50)
refusals = _cached(risk.refusals, CALM, 50)
list_alerts = _cached(risk.list_alerts, LIVE, 50)
last_drill = _cached(watch.last_drill, CALM)


def instruction_state(instruction_id: UUID) -> watch.InstructionState | None:
    """What became of an instruction by now; not cached, because somebody waits for it."""
    with _connection() as connection:
        return watch.instruction_state(connection, instruction_id)


def current_price(exchange: str, symbol: str) -> float | None:
    """The newest stored price, not cached."""
    with _connection() as connection:
        return watch.current_price(connection, exchange, symbol)


universe_now = _cached(universe.universe_now, CALM)
newest_listings = _cached(universe.newest_listings, CALM)
list_gaps = _cached(status.list_gaps, CALM)
list_quarantine = _cached(status.list_quarantine, CALM)
list_events = _cached(status.list_events, LIVE)
database_size = _cached(status.database_size, SLOW)


@dataclass(frozen=True)
class Machine:
    """Load of the machine that serves the pages; fractions and bytes."""

    cpu: float
    cores: int
    memory: float
    memory_used: int
    memory_total: int


@st.cache_data(ttl=LIVE, show_spinner=False)
def machine() -> Machine:
    memory = psutil.virtual_memory()
    return Machine(
        cpu=psutil.cpu_percent(interval=0.1) / 100,
        cores=psutil.cpu_count() or 1,
        memory=memory.percent / 100,
        memory_used=memory.used,
        memory_total=memory.total,
    )


def utc_now() -> datetime:
    return datetime.now(UTC)


def is_simulated() -> bool:
    """Whether the settings trade the simulated market, whose flows and odds are its own."""
    return _settings().source is SourceName.SIMULATED


def this_minute() -> datetime:
    """Now without seconds, so that a question is asked once a minute."""
    return utc_now().replace(second=0, microsecond=0)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def coin_flows(since: datetime, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return flows.coin_summary(connection, since, simulated=simulated)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def flow_series(series: str, coin: str | None, since: datetime, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return flows.flow_series(connection, series, coin, since, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def list_transactions(since: datetime, coin: str | None, least_usd: float, limit: int, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return flows.list_transactions(connection, since, coin, least_usd, limit, simulated=simulated)


@st.cache_data(ttl=SLOW, show_spinner=False)
def prediction_coins(simulated: bool) -> list[str]:
    with _connection() as connection:
        return prediction_markets.list_coins(connection, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def newest_distributions(coin: str | None, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return prediction_markets.newest_distributions(connection, coin, utc_now(), simulated=simulated)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def distribution_history(coin: str, expires_at: datetime, method: str, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return prediction_markets.distribution_history(connection, coin, expires_at, method, simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def list_markets(coin: str | None, statuses: tuple[str, ...], limit: int, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return prediction_markets.list_markets(connection, coin, statuses, limit, simulated=simulated)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def odds_history(market_ids: tuple[str, ...], since: datetime, simulated: bool) -> pd.DataFrame:
    with _connection() as connection:
        return prediction_markets.odds_history(connection, market_ids, since, simulated=simulated)
