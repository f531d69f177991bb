"""The composite score of every symbol, the inputs behind it, and calibrations of its weights.

Belongs here: the tables that scoring and calibrations fill, the former a partition per UTC day. Does not belong here:
mappings and weights (`domain.scoring`), and signals that follow from a score (`defs.signals`).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

OWNER = "team:research"
_FRAME = settings().signal_timeframe
_BESIDES_PRICES = ("fear_greed", "sentiment", "flow_metrics", "implied_distributions")
INPUTS = table_spec(
    "factor_values",
    group="analysis",
    owner=OWNER,
    description="What the factors of the composite score were made of: raw value, mapped value and age of each input.",
    deps=list(dict.fromkeys((f"ohlcv_{_FRAME}", "ohlcv_1h", "technical_signals", "funding_rates", *_BESIDES_PRICES))),
    fresh_within=timedelta(minutes=45),
)
SCORES = table_spec(
    "composite_scores",
    group="analysis",
    owner=OWNER,
    description="0 to 100 per symbol and close: charts, sentiment, on-chain, market context and momentum, weighted.",
    deps=[INPUTS.key],
    fresh_within=timedelta(minutes=45),
)


CALIBRATIONS = table_spec(
    "score_calibrations",
    group="research",
    owner=OWNER,
    description="Walk-forward searches for the weights of the score, against charts alone, out of sample.",
    deps=list(dict.fromkeys((f"ohlcv_{_FRAME}", "ohlcv_1h", "funding_rates", *_BESIDES_PRICES))),
)


@dg.multi_asset(
    name="score", specs=[INPUTS, SCORES], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def scoring(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Score the run's days from what was known at each close."""
    from trading_pipelines.application.analysis.scoring import score_range

    exchange = settings().exchange
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        symbols = traded_symbols(connection)
        report = score_range(connection, exchange, symbols, _FRAME, window.start, window.end, settings().scoring)
        rows = partition_rows(connection, "factor_values", window, exchange)
        yield dg.MaterializeResult(asset_key=INPUTS.key, metadata=rows)
        rows = partition_rows(connection, "composite_scores", window, exchange)
        yield dg.MaterializeResult(
            asset_key=SCORES.key,
            metadata={
                "new": report.counts.inserted,
                "changed": report.counts.updated,
                "seconds": report.seconds,
                **rows,
            },
        )


class CalibrationConfig(dg.Config):
    """What to calibrate on; the defaults take three years of all traded symbols."""

    symbols: list[str] = Field(default_factory=list)
    """Empty takes all symbols of the platform."""
    timeframe: str | None = None
    start: str | None = None
    """ISO time with zone of the first bar; none means `days` before the end."""
    end: str | None = None
    """ISO time with zone, not included; none means the last 00:00 UTC."""
    days: int = 1095
    train_days: int = 365
    test_days: int = 90


@dg.multi_asset(name="calibrate_score", specs=[CALIBRATIONS])
def calibration(
    context: dg.AssetExecutionContext, config: CalibrationConfig, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Choose weights walk-forward and keep what came of them out of sample; nothing uses them by itself."""
    from trading_pipelines.application.analysis.calibration import CalibrationRequest, calibrate
    from trading_pipelines.domain.market.timeframe import Timeframe

    now = clock.now()
    end = datetime.fromisoformat(config.end) if config.end else Timeframe.D1.floor(now)
    with user_errors(), database.connect() as connection:
        request = CalibrationRequest(
            exchange=settings().exchange,
            symbols=tuple(config.symbols) or traded_symbols(connection),
            timeframe=Timeframe(config.timeframe or _FRAME),
            start=datetime.fromisoformat(config.start) if config.start else end - timedelta(days=config.days),
            end=end,
            train_days=config.train_days,
            test_days=config.test_days,
        )
        report = calibrate(connection, request, settings().scoring, settings().training, now, run_id=context.run.run_id)
        return dg.MaterializeResult(
            asset_key=CALIBRATIONS.key,
            metadata={
                "moments": report.moments,
                "weights": report.weights,
                "false_signals_change": report.false_signals_change,
                **table_rows(connection, "score_calibrations"),
            },
        )
