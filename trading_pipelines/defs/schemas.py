"""What the rows of a table must look like, as pandera schemas.

Belongs here: rules about single rows and their keys. Does not belong here: rules that compare tables or
need a clock (`checks.py` of the stage). Import inside a check: pandera is not needed to load the
definitions.
"""

import numpy as np
import pandas as pd
import pandera.pandas as pa

from trading_pipelines.domain.market.timeframe import Timeframe

_PRICE = pa.Column(float, [pa.Check.gt(0), pa.Check(np.isfinite, name="finite")])
_TIME = pa.Column("datetime64[us, UTC]")


def candle_schema(timeframe: Timeframe) -> pa.DataFrameSchema:
    """Bars that open on the grid of `timeframe`, are known at their close, and whose prices are in order."""
    return pa.DataFrameSchema(
        {
            "instrument_id": pa.Column(int),
            "ts": pa.Column(
                _TIME.dtype,
                pa.Check(lambda ts: ts == ts.dt.floor(f"{timeframe.minutes}min"), name="aligned"),
            ),
            "open": _PRICE,
            "high": _PRICE,
            "low": _PRICE,
            "close": _PRICE,
            "volume": pa.Column(float, [pa.Check.ge(0), pa.Check(np.isfinite, name="finite")]),
            "available_at": _TIME,
        },
        checks=[
            pa.Check(lambda f: f["high"] >= f[["open", "close", "low"]].max(axis=1), name="high_is_highest"),
            pa.Check(lambda f: f["low"] <= f[["open", "close"]].min(axis=1), name="low_is_lowest"),
            pa.Check(lambda f: f["available_at"] == f["ts"] + timeframe.delta, name="known_at_close"),
        ],
        unique=["instrument_id", "ts"],
    )


FUNDING = pa.DataFrameSchema(
    {
        "instrument_id": pa.Column(int),
        "ts": _TIME,
        "rate": pa.Column(float, pa.Check.in_range(-0.1, 0.1, include_min=False, include_max=False)),
        "available_at": _TIME,
    },
    checks=[pa.Check(lambda f: f["available_at"] >= f["ts"], name="known_after_settlement")],
    unique=["instrument_id", "ts"],
)
"""No venue charges a tenth of the notional at once: such a rate is a percentage taken for a fraction."""

PREDICTIONS = pa.DataFrameSchema(
    {
        "instrument_id": pa.Column(int),
        "timeframe": pa.Column(str),
        "ts": _TIME,
        "model_id": pa.Column(str),
        "available_at": _TIME,
        "probability": pa.Column(float, pa.Check.in_range(0, 1)),
        "confidence": pa.Column(float, pa.Check.in_range(0.5, 1)),
        "side": pa.Column(str, pa.Check.isin(["LONG", "SHORT"])),
    },
    checks=[
        pa.Check(
            lambda f: (
                (f["confidence"] - f["probability"].where(f["probability"] >= 0.5, 1 - f["probability"])).abs() < 1e-9
            ),
            name="confidence_follows_probability",
        ),
        pa.Check(lambda f: (f["side"] == "LONG") == (f["probability"] >= 0.5), name="side_follows_probability"),
    ],
    unique=["instrument_id", "timeframe", "ts", "model_id"],
)


def violations(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> list[str]:
    """Which rules are broken, by how many rows, in words; a frame without rows breaks none."""
    if frame.empty:
        return []
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        broken = errors.failure_cases.groupby(["column", "check"], dropna=False)["index"].nunique()
        return [f"{column}: {check} ({rows} rows)" for (column, check), rows in broken.items()]
    return []
