"""The code location: everything that Dagster knows of the platform.

Belongs here: assembling. Does not belong here: any asset, job or sensor itself. Importing this module opens
no connection and loads neither numba, LightGBM nor ccxt.
"""

import dagster as dg

from trading_pipelines.defs.alternative import assets as alternative_assets
from trading_pipelines.defs.alternative import checks as alternative_checks
from trading_pipelines.defs.alternative.jobs import figures_job, texts_job
from trading_pipelines.defs.alternative.schedules import figures_schedule, texts_schedule
from trading_pipelines.defs.analysis import assets as analysis_assets
from trading_pipelines.defs.analysis import checks as analysis_checks
from trading_pipelines.defs.analysis.jobs import analysis_job, screener_job
from trading_pipelines.defs.analysis.schedules import analysis_schedule, screener_schedule
from trading_pipelines.defs.execution import assets as execution_assets
from trading_pipelines.defs.execution import checks as execution_checks
from trading_pipelines.defs.execution.jobs import signal_execution_job
from trading_pipelines.defs.execution.schedules import signal_execution_schedule
from trading_pipelines.defs.execution.sensors import signal_execution_sensor
from trading_pipelines.defs.features import assets as feature_assets
from trading_pipelines.defs.features import checks as feature_checks
from trading_pipelines.defs.leaks import checks as leak_checks
from trading_pipelines.defs.leaks.jobs import leak_check_job, leak_check_schedule
from trading_pipelines.defs.market_data import assets as market_data_assets
from trading_pipelines.defs.market_data import checks as market_data_checks
from trading_pipelines.defs.market_data import derivatives as derivative_data
from trading_pipelines.defs.market_data import universe as universe_data
from trading_pipelines.defs.market_data.corrections import corrections_job, corrections_schedule
from trading_pipelines.defs.market_data.jobs import candles_job, market_data_job
from trading_pipelines.defs.market_data.repair import repair_job, repair_schedule
from trading_pipelines.defs.market_data.retention import retention_job, retention_schedule
from trading_pipelines.defs.market_data.schedules import (
    candles_schedule,
    day_close_schedule,
    market_data_schedule,
    recheck_schedule,
)
from trading_pipelines.defs.models import assets as model_assets
from trading_pipelines.defs.models import checks as model_checks
from trading_pipelines.defs.models.drift import drift_job, drift_schedule
from trading_pipelines.defs.models.jobs import training_help_job, training_job
from trading_pipelines.defs.models.schedules import training_schedule
from trading_pipelines.defs.models.sensors import retrain_on_drift
from trading_pipelines.defs.onchain import assets as onchain_assets
from trading_pipelines.defs.onchain import checks as onchain_checks
from trading_pipelines.defs.onchain.jobs import flows_job, whale_alerts_job
from trading_pipelines.defs.onchain.schedules import flows_schedule, whale_alerts_schedule
from trading_pipelines.defs.operations.jobs import kill_drill_job, maintenance_job
from trading_pipelines.defs.operations.orphans import orphaned_run_sensor
from trading_pipelines.defs.operations.schedules import kill_drill_schedule, maintenance_schedule
from trading_pipelines.defs.operations.sensors import record_run_failure
from trading_pipelines.defs.portfolio import checks as portfolio_checks
from trading_pipelines.defs.portfolio import parity
from trading_pipelines.defs.portfolio.assets import EQUITY
from trading_pipelines.defs.prediction_markets import assets as prediction_market_assets
from trading_pipelines.defs.prediction_markets import checks as prediction_market_checks
from trading_pipelines.defs.prediction_markets.jobs import prediction_markets_job
from trading_pipelines.defs.prediction_markets.schedules import prediction_markets_schedule
from trading_pipelines.defs.research import assets as research_assets
from trading_pipelines.defs.research import checks as research_checks
from trading_pipelines.defs.research.jobs import backtest_job, search_job
from trading_pipelines.defs.scoring import assets as scoring_assets
from trading_pipelines.defs.scoring import checks as scoring_checks
from trading_pipelines.defs.scoring.jobs import score_calibration_job, scoring_job
from trading_pipelines.defs.sentiment import assets as sentiment_assets
from trading_pipelines.defs.sentiment import checks as sentiment_checks
from trading_pipelines.defs.sentiment.jobs import sentiment_job
from trading_pipelines.defs.sentiment.schedules import sentiment_schedule
from trading_pipelines.defs.signals import assets as signal_assets
from trading_pipelines.defs.signals import checks as signal_checks
from trading_pipelines.defs.signals.jobs import signal_emission_job, signal_expiry_job
from trading_pipelines.defs.signals.schedules import signal_emission_schedule, signal_expiry_schedule
from trading_pipelines.defs.signals.sensors import signal_emission_sensor
from trading_pipelines.resources.platform import platform_resources

defs = dg.Definitions(
    assets=[
        *dg.load_assets_from_modules(
            [market_data_assets, feature_assets, analysis_assets, model_assets, signal_assets, execution_assets]
        ),
        *dg.load_assets_from_modules(
            [derivative_data, universe_data, research_assets, scoring_assets, alternative_assets, sentiment_assets]
        ),
        *dg.load_assets_from_modules([onchain_assets, prediction_market_assets]),
        EQUITY,
        parity.parity_reports,
    ],
    asset_checks=dg.load_asset_checks_from_modules(
        [
            market_data_checks,
            derivative_data,
            universe_data,
            feature_checks,
            analysis_checks,
            model_checks,
            scoring_checks,
            sentiment_checks,
            signal_checks,
            leak_checks,
            execution_checks,
            portfolio_checks,
            research_checks,
            alternative_checks,
            onchain_checks,
            prediction_market_checks,
            parity,
        ]
    ),
    jobs=[
        candles_job,
        market_data_job,
        universe_data.universe_job,
        universe_data.universe_candles_job,
        derivative_data.derivatives_job,
        analysis_job,
        screener_job,
        texts_job,
        sentiment_job,
        figures_job,
        whale_alerts_job,
        flows_job,
        prediction_markets_job,
        training_job,
        backtest_job,
        search_job,
        scoring_job,
        score_calibration_job,
        training_help_job,
        drift_job,
        leak_check_job,
        signal_emission_job,
        signal_expiry_job,
        signal_execution_job,
        maintenance_job,
        repair_job,
        retention_job,
        corrections_job,
        kill_drill_job,
        parity.parity_job,
    ],
    schedules=[
        market_data_schedule,
        universe_data.universe_schedule,
        universe_data.universe_candles_schedule,
        derivative_data.derivatives_schedule,
        candles_schedule,
        day_close_schedule,
        recheck_schedule,
        analysis_schedule,
        screener_schedule,
        texts_schedule,
        figures_schedule,
        whale_alerts_schedule,
        flows_schedule,
        prediction_markets_schedule,
        sentiment_schedule,
        training_schedule,
        drift_schedule,
        leak_check_schedule,
        signal_emission_schedule,
        signal_expiry_schedule,
        signal_execution_schedule,
        maintenance_schedule,
        repair_schedule,
        retention_schedule,
        corrections_schedule,
        kill_drill_schedule,
        parity.parity_schedule,
    ],
    sensors=[
        signal_emission_sensor,
        signal_execution_sensor,
        retrain_on_drift,
        orphaned_run_sensor,
        record_run_failure,
    ],
    resources=platform_resources(),
    executor=dg.in_process_executor,
)
