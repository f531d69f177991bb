"""The numbers of the simulated market."""

from pydantic import BaseModel, ConfigDict, Field


class SimulatedMarketSpec(BaseModel):
    """A seeded market: the same seed gives the same candle for the same minute, for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=20240101, ge=0)
    symbols: tuple[str, ...] = (
        "BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT",
        "ADAUSDT", "AVAXUSDT", "LINKUSDT", "DOTUSDT",
    )  # fmt: skip
    history_days: int = Field(default=240, ge=30)
    """How far back the market has candles, measured from now."""
