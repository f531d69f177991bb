"""The read models behind a short cache, shared by all viewers.

One function per question. The time to live is at most the pace at which a page refreshes itself, so the number
of viewers does not multiply the queries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
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


@st.cache_data(ttl=CALM, show_spinner=False)
def list_sessions() -> list[sessions.SessionSummary]:
    with _connection() as connection:
        return sessions.list_sessions(connection)


@st.cache_data(ttl=SLOW, show_spinner=False)
def list_exchanges() -> list[market.Exchange]:
    with _connection() as connection:
        return market.list_exchanges(connection)


@st.cache_data(ttl=SLOW, show_spinner=False)
def list_symbols(exchange: str) -> list[str]:
    with _connection() as connection:
        return market.list_symbols(connection, exchange)


@st.cache_data(ttl=LIVE, show_spinner=False)
def market_overview(exchange: str, session_id: UUID | None, timeframe: str) -> pd.DataFrame:
    with _connection() as connection:
        return market.market_overview(connection, exchange, session_id, timeframe)


@st.cache_data(ttl=CALM, show_spinner=False)
def market_indices(simulated: bool) -> dict[str, market.MarketIndex]:
    with _connection() as connection:
        return market.market_indices(connection, utc_now(), simulated=simulated)


@st.cache_data(ttl=CALM, show_spinner=False)
def newest_technical_signals(exchange: str) -> pd.DataFrame:
    with _connection() as connection:
        return analysis.newest_technical_signals(connection, exchange)


@st.cache_data(ttl=SLOW, show_spinner=False)
def ranked_days(exchange: str, limit: int) -> list[datetime]:
    with _connection() as connection:
        return analysis.ranked_days(connection, exchange, limit)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def ranking(exchange: str, day: datetime, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return analysis.ranking(connection, exchange, day, limit)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def list_anomalies(exchange: str, since: datetime, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return analysis.list_anomalies(connection, exchange, since, limit)


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


@st.cache_data(ttl=LIVE, show_spinner=False)
def newest_scores(exchange: str, timeframe: str) -> pd.DataFrame:
    with _connection() as connection:
        return scores.newest_scores(connection, exchange, timeframe)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def explain_score(exchange: str, symbol: str, timeframe: str) -> scores.ScoreParts | None:
    with _connection() as connection:
        return scores.explain_score(connection, exchange, symbol, timeframe)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def score_history(exchange: str, symbol: str, timeframe: str, since: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return scores.score_history(connection, exchange, symbol, timeframe, since)


@st.cache_data(ttl=LIVE, show_spinner=False)
def platform_status() -> status.PlatformStatus:
    with _connection() as connection:
        return status.platform_status(connection)


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


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=200)
def signal_detail(signal_id: UUID) -> signals.SignalDetail | None:
    with _connection() as connection:
        return signals.signal_detail(connection, signal_id)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def trade_chain(id_: str) -> dict[str, Any] | None:
    with _connection() as connection:
        return lineage.chain(connection, id_, _settings().sentiment.aggregation)


@st.cache_data(ttl=CALM, show_spinner=False)
def newest_decision(session_id: UUID) -> datetime | None:
    with _connection() as connection:
        return signals.newest_decision(connection, session_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def decision_counts(session_id: UUID, since: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return signals.decision_counts(connection, session_id, since)


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


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=100)
def candle_span(exchange: str, symbol: str) -> dict[str, tuple[datetime, datetime]]:
    with _connection() as connection:
        return chart.candle_span(connection, exchange, symbol)


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


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def signal_marks(session_id: UUID, exchange: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return chart.signal_marks(connection, session_id, exchange, symbol, start, end)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def fill_marks(session_id: UUID, exchange: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return chart.fill_marks(connection, session_id, exchange, symbol, start, end)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def session_bars(
    session_id: UUID, exchange: str, symbol: str, timeframe: str, start: datetime, end: datetime
) -> list[replay.SessionBar]:
    with _connection() as connection:
        return replay.session_bars(connection, session_id, exchange, symbol, timeframe, start, end)


@st.cache_data(ttl=LIVE, show_spinner=False)
def open_positions(session_id: UUID) -> pd.DataFrame:
    with _connection() as connection:
        return positions.open_positions(connection, session_id)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def closed_positions(session_id: UUID, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return positions.closed_positions(connection, session_id, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def list_orders(session_id: UUID, statuses: tuple[str, ...] | None, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return positions.list_orders(connection, session_id, list(statuses) if statuses else None, limit)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def account(session_id: UUID) -> performance.Account | None:
    with _connection() as connection:
        return performance.account(connection, session_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def performance_report(session_id: UUID) -> performance.PerformanceReport | None:
    with _connection() as connection:
        return performance.performance_report(connection, session_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def list_versions(exchange: str, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return models.list_versions(connection, exchange, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=10)
def training_progress(exchange: str, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return training.training_progress(connection, exchange, limit)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def importance(model_id: str) -> pd.DataFrame:
    with _connection() as connection:
        return models.importance(connection, model_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def explained_signals(model_id: str, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return models.explained_signals(connection, model_id, limit)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def model_drift(exchange: str, since: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return models.drift(connection, exchange, since)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def feature_drift(model_id: str, most: int) -> pd.DataFrame:
    with _connection() as connection:
        return models.feature_drift(connection, model_id, most)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def version_metrics(model_id: str) -> dict[str, float]:
    with _connection() as connection:
        return models.version_metrics(connection, model_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def version_folds(training_key: str) -> pd.DataFrame:
    with _connection() as connection:
        return models.version_folds(connection, training_key)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=50)
def calibration(exchange: str, symbol: str | None, since: datetime) -> pd.DataFrame:
    with _connection() as connection:
        return models.calibration(connection, exchange, symbol, since)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def list_backtests(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return backtests.list_backtests(connection, limit)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def backtest(backtest_id: UUID) -> backtests.BacktestSummary | None:
    with _connection() as connection:
        return backtests.backtest(connection, backtest_id)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def backtest_curve(backtest_id: UUID, start_capital: float) -> pd.DataFrame:
    with _connection() as connection:
        return backtests.curve(connection, backtest_id, start_capital)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def backtest_trades(backtest_id: UUID) -> pd.DataFrame:
    with _connection() as connection:
        return backtests.trades(connection, backtest_id)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=20)
def list_searches(limit: int) -> list[backtests.SearchSummary]:
    with _connection() as connection:
        return backtests.list_searches(connection, limit)


@st.cache_data(ttl=SLOW, show_spinner=False, max_entries=20)
def search_trials(search_id: UUID) -> pd.DataFrame:
    with _connection() as connection:
        return backtests.trials(connection, search_id)


@st.cache_data(ttl=LIVE, show_spinner=False)
def outside_sources() -> pd.DataFrame:
    with _connection() as connection:
        return sources.outside_sources(connection)


@st.cache_data(ttl=LIVE, show_spinner=False)
def refused_items(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return sources.refused_items(connection, limit)


@st.cache_data(ttl=LIVE, show_spinner=False)
def source_status() -> pd.DataFrame:
    with _connection() as connection:
        return status.source_status(connection)


@st.cache_data(ttl=CALM, show_spinner=False)
def newest_candles() -> pd.DataFrame:
    with _connection() as connection:
        return status.newest_candles(connection)


@st.cache_data(ttl=CALM, show_spinner=False)
def compare_sessions(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return sessions.compare_sessions(connection, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def account_truth(session_id: UUID) -> watch.AccountTruth | None:
    with _connection() as connection:
        return watch.account_truth(connection, session_id)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def list_instructions(session_id: UUID, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return watch.list_instructions(connection, session_id, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def list_discrepancies(session_id: UUID, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return watch.list_discrepancies(connection, session_id, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def risk_state(session_id: UUID) -> risk.RiskState | None:
    with _connection() as connection:
        return risk.risk_state(connection, session_id)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def locks_in_force(session_id: UUID) -> pd.DataFrame:
    with _connection() as connection:
        return risk.locks_in_force(connection, session_id)


@st.cache_data(ttl=CALM, show_spinner=False, max_entries=50)
def refusals(session_id: UUID, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return risk.refusals(connection, session_id, limit)


@st.cache_data(ttl=LIVE, show_spinner=False, max_entries=50)
def list_alerts(session_id: UUID | None, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return risk.list_alerts(connection, session_id, limit)


@st.cache_data(ttl=CALM, show_spinner=False)
def last_drill() -> watch.Drill | None:
    with _connection() as connection:
        return watch.last_drill(connection)


def instruction_state(instruction_id: UUID) -> watch.InstructionState | None:
    """What became of an instruction by now; not cached, because somebody waits for it."""
    with _connection() as connection:
        return watch.instruction_state(connection, instruction_id)


def current_price(exchange: str, symbol: str) -> float | None:
    """The newest stored price, not cached."""
    with _connection() as connection:
        return watch.current_price(connection, exchange, symbol)


@st.cache_data(ttl=CALM, show_spinner=False)
def universe_now(exchange: str) -> pd.DataFrame:
    with _connection() as connection:
        return universe.universe_now(connection, exchange)


@st.cache_data(ttl=CALM, show_spinner=False)
def newest_listings(exchange: str, limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return universe.newest_listings(connection, exchange, limit)


@st.cache_data(ttl=CALM, show_spinner=False)
def list_gaps(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return status.list_gaps(connection, limit)


@st.cache_data(ttl=CALM, show_spinner=False)
def list_quarantine(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return status.list_quarantine(connection, limit)


@st.cache_data(ttl=LIVE, show_spinner=False)
def list_events(limit: int) -> pd.DataFrame:
    with _connection() as connection:
        return status.list_events(connection, limit)


@st.cache_data(ttl=SLOW, show_spinner=False)
def database_size(limit: int) -> status.DatabaseSize:
    with _connection() as connection:
        return status.database_size(connection, limit)


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
