"""The code location as a whole: what it offers, and what loading it must not do."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from trading_pipelines.definitions import defs

ROOT = Path(__file__).parents[2]
ASSETS = {
    "ohlcv_5m",
    "ohlcv_15m",
    "ohlcv_1h",
    "ohlcv_4h",
    "ohlcv_1d",
    "funding_rates",
    "open_interest",
    "mark_prices",
    "universe",
    "listings",
    "tickers",
    "market_breadth",
    "features_15m",
    "technical_signals",
    "factor_values",
    "composite_scores",
    "score_calibrations",
    "text_mentions",
    "text_scores",
    "sentiment",
    "anomalies",
    "screener_rankings",
    "model_versions",
    "predictions",
    "decisions",
    "signals",
    "orders",
    "fills",
    "positions",
    "equity",
    "parity_reports",
    "backtests",
    "backtest_searches",
}
OUTSIDE = {
    "fear_greed",
    "coin_metrics",
    "social_metrics",
    "derivatives_sentiment",
    "news",
    "posts",
}
"""What comes from elsewhere than the market; several of these share a table."""
CHAINS_AND_ODDS = {
    "whale_transactions",
    "exchange_flows",
    "flow_metrics",
    "prediction_markets",
    "prediction_odds",
    "implied_distributions",
}
"""What moves on chains, what prediction markets expect, and what follows from both."""
READ = {"text_mentions", "text_scores", "sentiment"}
"""What is read out of texts, which do not descend from candles either."""
DAILY = CHAINS_AND_ODDS | {
    "fear_greed",
    "social_metrics",
    "derivatives_sentiment",
    "ohlcv_5m",
    "ohlcv_15m",
    "ohlcv_1h",
    "ohlcv_4h",
    "ohlcv_1d",
    "funding_rates",
    "open_interest",
    "mark_prices",
    "market_breadth",
    "features_15m",
    "technical_signals",
    "factor_values",
    "composite_scores",
    "text_mentions",
    "text_scores",
    "sentiment",
    "anomalies",
    "screener_rankings",
    "predictions",
}
BLOCKING = {
    *((name, "known_after_it_happened") for name in OUTSIDE),
    ("ohlcv_5m", "valid"),
    ("ohlcv_5m", "fresh"),
    ("ohlcv_15m", "valid"),
    ("funding_rates", "valid"),
    ("open_interest", "valid"),
    ("universe", "gapless"),
    ("features_15m", "finite"),
    ("features_15m", "no_lookahead"),
    ("technical_signals", "levels_in_order"),
    ("text_scores", "known_after_the_text"),
    ("sentiment", "no_lookahead"),
    ("whale_transactions", "known_after_it_happened"),
    ("exchange_flows", "known_after_it_happened"),
    ("flow_metrics", "no_lookahead"),
    ("prediction_odds", "known_after_it_happened"),
    ("implied_distributions", "no_lookahead"),
    ("anomalies", "known_at_close"),
    ("screener_rankings", "ranks_complete"),
    ("factor_values", "within_bounds"),
    ("composite_scores", "contributions_add_up"),
    ("composite_scores", "no_lookahead"),
    ("predictions", "within_bounds"),
    ("predictions", "no_lookahead"),
    ("signals", "prices_in_order"),
    ("signals", "founded"),
    ("orders", "once"),
    ("positions", "protected"),
    ("equity", "identity"),
}
HEAVY_MODULES = ("ccxt", "lightgbm", "numba", "pandas", "pandera", "psycopg", "sklearn", "talib")

graph = defs.resolve_asset_graph()


def asset(name: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey(name))


def test_all_assets_exist() -> None:
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == ASSETS | OUTSIDE | CHAINS_AND_ODDS


@pytest.mark.parametrize("name", sorted(ASSETS | OUTSIDE | CHAINS_AND_ODDS))
def test_asset_has_group_owner_kinds_description_and_columns(name: str) -> None:
    spec = asset(name)
    groups = {
        "alternative",
        "market_data",
        "features",
        "analysis",
        "models",
        "signals",
        "execution",
        "portfolio",
        "research",
    }
    assert spec.group_name in groups
    assert [owner.partition(":")[0] for owner in spec.owners] == ["team"]
    assert "postgres" in spec.kinds
    assert spec.description
    assert spec.metadata["dagster/column_schema"].columns
    assert spec.metadata["dagster/table_name"] == f"public.{name}" or name in OUTSIDE | CHAINS_AND_ODDS


@pytest.mark.parametrize(
    "name",
    sorted(
        ASSETS - {"ohlcv_5m", "funding_rates", "open_interest", "mark_prices", "universe", "listings", "tickers"} - READ
    ),
)
def test_asset_descends_from_the_fetched_candles(name: str) -> None:
    ancestors = set()
    frontier = {dg.AssetKey(name)}
    while frontier:
        ancestors |= frontier
        frontier = {parent for key in frontier for parent in graph.get(key).parent_keys} - ancestors
    assert dg.AssetKey("ohlcv_5m") in ancestors


def test_market_data_has_daily_partitions_up_to_today_and_single_run_backfills() -> None:
    partitioned = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).partitions_def}
    assert partitioned == DAILY | {"model_versions"}
    for name in DAILY:
        node = graph.get(dg.AssetKey(name))
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        partitions = node.partitions_def
        assert isinstance(partitions, dg.DailyPartitionsDefinition)
        assert (partitions.timezone, partitions.end_offset) == ("UTC", 1)


@pytest.mark.parametrize("name", sorted(OUTSIDE | CHAINS_AND_ODDS | READ | {"factor_values", "composite_scores"}))
def test_what_is_known_besides_prices_goes_stale_and_is_checked(name: str) -> None:
    assert asset(name).freshness_policy is not None
    assert {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(name)}


def test_checks_that_must_block_do() -> None:
    blocking = {
        (key.asset_key.to_user_string(), key.name)
        for key in graph.asset_check_keys
        if graph.get_check_spec(key).blocking
    }
    assert blocking >= BLOCKING


def test_everything_that_the_platform_needs_runs_without_being_switched_on() -> None:
    repository = defs.get_repository_def()
    assert {s.name for s in repository.sensor_defs} == {
        "signal_emission_sensor",
        "signal_execution_sensor",
        "run_failure_sensor",
        "orphaned_run_sensor",
        "retrain_on_drift",
    }
    assert all(s.default_status is dg.DefaultSensorStatus.RUNNING for s in repository.sensor_defs)
    assert {s.name: s.cron_schedule for s in repository.schedule_defs} == {
        "market_data_schedule": "*/5 * * * *",
        "candles_schedule": "7-59/15 * * * *",
        "universe_schedule": "4-59/5 * * * *",
        "universe_candles_schedule": "9,34 0 * * *",
        "derivatives_schedule": "6 * * * *",
        "day_close_schedule": "18 0 * * *",
        "recheck_schedule": "52 1 * * *",
        "analysis_schedule": "1-59/15 * * * *",
        "screener_schedule": "24,39,54 * * * *",
        "texts_schedule": "9-59/15 * * * *",
        "figures_schedule": "6 * * * *",
        "sentiment_schedule": "12-59/15 * * * *",
        "whale_alerts_schedule": "*/4 * * * *",
        "flows_schedule": "13 * * * *",
        "prediction_markets_schedule": "2 * * * *",
        "signal_emission_schedule": "2-59/5 * * * *",
        "signal_expiry_schedule": "*/5 * * * *",
        "signal_execution_schedule": "3-59/5 * * * *",
        "maintenance_schedule": "50 0 * * *",
        "repair_schedule": "36 * * * *",
        "retention_schedule": "41 3 * * *",
        "corrections_schedule": "11-59/15 * * * *",
        "kill_drill_schedule": "20 6 * * *",
        "parity_schedule": "27 0 * * *",
        "training_schedule": "35 1 * * *",
        "drift_schedule": "12 1 * * *",
        "leak_check_schedule": "5 3 * * *",
    }
    assert all(s.default_status is dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs)


def test_only_fetching_waits_for_pools() -> None:
    pools = {
        node.assets_def.op.pool
        for node in (graph.get(key) for key in graph.get_all_asset_keys())
        if node.is_materializable
    }
    asked = OUTSIDE | {"whale_transactions", "exchange_flows", "prediction_odds"}
    assert pools == {None, "exchange_simulated", *(f"source_{name}" for name in asked)}
    assert graph.get(dg.AssetKey("ohlcv_5m")).assets_def.op.pool == "exchange_simulated"


def test_loading_imports_nothing_heavy_and_needs_no_database() -> None:
    script = (
        "import sys, trading_pipelines.definitions as d; d.defs.get_repository_def(); "
        f"print(*[m for m in {HEAVY_MODULES!r} if m in sys.modules])"
    )
    environment = {"PATH": os.environ["PATH"], "TRADING_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("command", [("dagster", "definitions", "validate"), ("dg", "check", "defs")])
def test_command_line_check_of_the_definitions_is_clean(command: tuple[str, ...], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name(command[0])
    checked = subprocess.run(
        [program, *command[1:]],
        cwd=ROOT,
        env={"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "DG_CLI_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "error" not in (checked.stdout + checked.stderr).lower()
