"""The numbers of the simulated market."""

from pydantic import BaseModel, ConfigDict, Field


class PriceProcess(BaseModel, frozen=True, extra="forbid"):
    """How prices of the simulated market move; changing a number changes all of its history."""

    trend_strength: float = Field(default=0.1, ge=0, le=1)
    """Drift of a symbol's own trend per 5-minute bar, in its own noise's standard deviation."""
    market_trend_strength: float = Field(default=0.085, ge=0, le=1)
    """The same for the market factor."""
    trend_hours: float = Field(default=16.0, gt=0)
    """Mean length of a regime: up, down or without trend."""
    range_share: float = Field(default=0.3, ge=0, le=1)
    """Share of time without a trend."""
    volatility_spread: float = Field(default=0.4, ge=0, le=1)
    """Standard deviation of log volatility."""
    jumps_per_day: float = Field(default=0.6, ge=0, le=50)
    """Mean number of jumps of one symbol."""
    jump_size: float = Field(default=5.0, ge=0)
    """Standard deviation of a jump, in the bar's own noise."""
    level_reversion: float = Field(default=0.15, gt=0, lt=1)
    """Share of the distance to the nominal price that a block of 16 days takes back on average."""


class SimulatedMarketSpec(BaseModel):
    """A seeded market: the same seed gives the same candle for the same minute, for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=20240101, ge=0, lt=2**63)
    symbols: tuple[str, ...] = (
        "BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT",
        "ADAUSDT", "AVAXUSDT", "LINKUSDT", "DOTUSDT",
    )  # fmt: skip
    history_days: int = Field(default=240, ge=30)
    """How far back the market has candles, measured from now."""
    listing_every_days: int = Field(default=9, ge=0)
    """Days from one new pair to the next; 0 lists none. New pairs are not traded unless they are named."""
    listing_days: int = Field(default=150, ge=1)
    """Days that a new pair stays listed."""
    process: PriceProcess = PriceProcess()
