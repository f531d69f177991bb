"""All settings of the platform, read from the environment and `.env`, validated once at start.

Every variable starts with `TRADING_`; a nested one is written with two underscores, for
example `TRADING_RISK__MAX_OPEN_POSITIONS=3`. Domain numbers live in the domain's own frozen
models and are only gathered here.
"""

import difflib
import os
from datetime import date
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableValueError

from trading_pipelines.domain.alternative.texts import TextLimits
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.doubt_rules import DoubtRules
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.market.universe import UniverseRules
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.onchain.flows import WhaleScoreSpec
from trading_pipelines.domain.onchain.transactions import FlowThresholds
from trading_pipelines.domain.prediction_markets.markets import OddsPolicy
from trading_pipelines.domain.risk.alerts import AlertThresholds
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.scoring.spec import ScoringSpec
from trading_pipelines.domain.sentiment.aggregate import AggregationSpec
from trading_pipelines.domain.sentiment.alerts import SentimentAlertSpec
from trading_pipelines.domain.signals.policy import Direction, Profile, SignalPolicy
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.validation.drift import DriftSpec
from trading_pipelines.errors import UserError

ENV_PREFIX = "TRADING_"


class SettingsError(UserError):
    """A setting is missing or wrong; the message names the variable and what to do."""


class SourceName(StrEnum):
    """Where candles come from."""

    SIMULATED = "simulated"
    ARCHIVE = "archive"
    CCXT = "ccxt"


class Ports(BaseModel):
    """TCP ports on 127.0.0.1; a taken port is an error that names the variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dagster: int = Field(default=3000, ge=1024, le=65535)
    streamlit: int = Field(default=8501, ge=1024, le=65535)


class SessionSettings(BaseModel):
    """The paper session that the schedules and sensors trade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="paper", min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    capital: float = Field(default=10_000.0, gt=0)
    """Start balance in USDT."""
    strategies: tuple[str, ...] = Field(default=("model_signals",), min_length=1)
    """In the order of precedence; a name, `path/to/file.py:Class` or `package.module:Class`."""
    strategy_params: dict[str, dict[str, Any]] = {}
    """Parameters by strategy, for example '{"ema_cross": {"fast": 10}}'."""
    direction: Direction = Direction.BOTH


class FillSettings(BaseModel):
    """What the first start of `trading up` prepares, so that the pages have something to show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history_days: int = Field(default=230, ge=30)
    """Candles to fetch at the first start; training windows and folds have to fit in."""
    replay_days: int = Field(default=10, ge=1)
    """Newest days that are replayed; the first models are trained on what lies before them."""
    text_days: int = Field(default=30, ge=1)
    """Newest days of news and posts that are collected and read; reading is slower than storing."""
    replay_name: str = Field(default="warmup-replay", min_length=1, max_length=40)


class TraderSettings(BaseModel):
    """The fast service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_seconds: float = Field(default=2.0, ge=0.1)
    """Pause between two looks at the market."""
    reconcile_seconds: float = Field(default=10.0, ge=1)
    """Pause between two comparisons with the exchange."""
    truth_seconds: float = Field(default=60.0, ge=1)
    """How long a comparison counts; without a newer one no entry is sent."""
    unresolved_seconds: float = Field(default=30.0, ge=1)
    """Age from which an order without a known outcome keeps all entries of its session back."""
    balance_tolerance: float = Field(default=0.01, ge=0)
    """Difference in quote currency up to which a balance agrees."""
    instruction_seconds: float = Field(default=30.0, ge=1)
    """How long an instruction of a person waits to be carried out before it expires."""
    bar_delay_seconds: float = Field(default=3.0, ge=0)
    """Time that a source gets to publish a bar after its close."""
    drill_seconds: float = Field(default=30.0, ge=1)
    """Time after which a drill of the kill switch that is not through has failed."""
    dagster_url: str | None = None
    """Webserver that is told of marked equity and positions; empty means the one of `trading up`."""
    log_seconds: float = Field(default=300.0, ge=1)
    """Pause between two log lines that say nothing but that the service is alive."""


class CollectorSettings(BaseModel):
    """Quotes and trades over the exchange's sockets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """Whether `trading up` runs the collector, where the source has a stream."""
    top_n: int = Field(default=20, ge=1, le=200)
    """Symbols by turnover of the last 24 hours that are collected beside the traded ones."""
    streams: tuple[Literal["tickers", "trades"], ...] = Field(default=("tickers", "trades"), min_length=1)
    flush_seconds: float = Field(default=1.0, gt=0)
    """Pause between two writes of what has arrived."""
    heartbeat_seconds: float = Field(default=300.0, gt=0)
    """Pause between two log lines with the counters."""
    first_backoff_seconds: float = Field(default=5.0, gt=0)
    """Pause before a connection that has ended is made again; it doubles while nothing arrives."""
    max_backoff_seconds: float = Field(default=60.0, gt=0)
    stall_seconds: float = Field(default=30.0, gt=0)
    """A connection on which nothing has arrived for so long is given up."""
    universe_seconds: float = Field(default=3600.0, gt=0)
    """Pause between two choices of the symbols."""
    fresh_seconds: float = Field(default=3.0, ge=0)
    """Age up to which the fast service takes a streamed quote instead of asking for one."""
    keep_days: int = Field(default=30, ge=1)
    """How long the sums of trades per minute are kept."""
    base_url: str | None = None
    """Replaces scheme and host of the exchange's socket address, for tests and proxies."""


class OrchestrationSettings(BaseModel):
    """How Dagster runs the platform."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_day: date = date(2018, 1, 1)
    """First daily partition of market data, UTC; older candles cannot be rebuilt by a backfill."""
    sensor_interval_seconds: int = Field(default=5, ge=5)
    """Pause between two looks for work; the daemon itself looks no more often than every 5 s."""
    max_attempts: int = Field(default=5, ge=1)
    """Runs that a sensor requests for the same work before it gives up."""
    retry_delay_seconds: float = Field(default=10.0, ge=0)
    """Pause before the second attempt at the same work; it doubles with each further one."""
    alert_after_failures: int = Field(default=3, ge=1)
    """Consecutive failures of one job that make an alert of a warning."""
    orphan_check_seconds: int = Field(default=30, ge=5)
    """Pause between two looks for runs whose process is gone."""
    lookahead_samples: int = Field(default=1, ge=1)
    """Feature rows per symbol that each update recomputes from what was known at their time."""
    leak_check_samples: int = Field(default=24, ge=1)
    """Stored rows of each kind that the nightly leak check computes again."""


class RepairSettings(BaseModel):
    """Gaps in the fetched candles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    second_source: str | None = Field(default=None, pattern="^[a-z0-9_]+$")
    """Exchange key whose candles stand in for missing ones, marked as such; empty leaves the gap open."""
    max_difference: float = Field(default=0.005, gt=0, lt=1)
    """Candles of the second exchange are refused if its closes beside the gap differ by more than this share."""
    times: int = Field(default=3, ge=1)
    """How often the exchange must have been asked again before a candle is known to be absent."""
    hours: float = Field(default=24.0, ge=0)
    """Age of a gap before which that is not believed; exchanges deliver late."""
    pause_minutes: float = Field(default=60.0, ge=0)
    """Pause between two questions about the same gap."""
    most: int = Field(default=200, ge=1)
    """Gaps that one repair asks about."""


class BacktestSettings(BaseModel):
    """Backtests and parameter searches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check_samples: int = Field(default=24, ge=2)
    """Bars per symbol at which the lookahead and the warm-up check ask a strategy again."""
    check_symbols: int = Field(default=3, ge=1)
    """Symbols on which a strategy is checked; its code is the same for all."""
    search_trials: int = Field(default=200, ge=2)
    """Combinations that a search tries at most; of a larger space so many are drawn."""
    search_folds: int = Field(default=5, ge=1)
    """Out-of-sample windows of a search."""
    search_train_ratio: float = Field(default=3.0, gt=0)
    """Length of the window in which parameters are chosen, in lengths of the one in which they are tried."""
    search_seed: int = 0
    """Draws the combinations of a space that is too large to be tried whole."""
    overfitting_blocks: int = Field(default=16, ge=2, le=20, multiple_of=2)
    """Blocks of time of the cross-validation that estimates the probability of overfitting."""


class OutsideSource(BaseModel):
    """One source of alternative data: whether it is asked, where and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    base_url: str = Field(default="", pattern="^(https://.*|http://127\\.0\\.0\\.1[:/].*)?$")
    """Replaces the service's address, for a proxy of one's own; https, or 127.0.0.1."""
    interval_seconds: float = Field(default=1.0, ge=0)
    """Between two requests of all processes of this machine."""
    cache_seconds: float = Field(default=60.0, ge=0)
    """For how long an answer is given again without asking."""


class FearGreedSettings(OutsideSource):
    """The Fear & Greed index of alternative.me; needs no key."""

    base_url: str = "https://api.alternative.me"


class CoinGeckoSettings(OutsideSource):
    """CoinGecko; works without a key at a slow pace."""

    base_url: str = "https://api.coingecko.com/api/v3"
    interval_seconds: float = Field(default=6.0, ge=0)
    api_key: SecretStr | None = None
    """Of the demo plan."""
    community_coins: int = Field(default=5, ge=0, le=50)
    """Coins whose page with community figures is read; each costs a request."""


class LunarCrushSettings(OutsideSource):
    """LunarCrush; not asked without a key."""

    base_url: str = "https://lunarcrush.com/api4"
    interval_seconds: float = Field(default=6.0, ge=0)
    api_key: SecretStr | None = None


class RssSettings(OutsideSource):
    """News feeds by name; each is a source of its own."""

    feeds: dict[str, str] = {
        "coindesk": "https://www.coindesk.com/arc/outboundfeeds/rss/",
        "cointelegraph": "https://cointelegraph.com/rss",
        "decrypt": "https://decrypt.co/feed",
    }


class RedditSettings(OutsideSource):
    """Reddit; not asked without an application of one's own (reddit.com/prefs/apps, type script)."""

    base_url: str = "https://oauth.reddit.com"
    login_url: str = "https://www.reddit.com"
    client_id: SecretStr | None = None
    client_secret: SecretStr | None = None
    user_agent: str = Field(default="trading-pipelines by an unnamed user", min_length=7, max_length=200)
    subreddits: tuple[str, ...] = ("cryptocurrency", "bitcoin")
    posts: int = Field(default=100, ge=1, le=100)
    """Newest posts of each subreddit that are read."""


class DerivativesSettings(OutsideSource):
    """How the crowd is positioned, from the public figures of two exchanges; needs no key."""

    base_url: str = "https://api.bybit.com"
    binance_url: str = "https://fapi.binance.com"
    interval_seconds: float = Field(default=0.2, ge=0)


class WhaleAlertSettings(OutsideSource):
    """Whale Alert; not asked without a key."""

    base_url: str = "https://api.whale-alert.io/v1"
    interval_seconds: float = Field(default=6.5, ge=0)
    """The free plan allows ten requests a minute."""
    cache_seconds: float = Field(default=0.0, ge=0)
    api_key: SecretStr | None = None
    history_minutes: float = Field(default=59.0, gt=0)
    """How far back the plan answers; the free one knows an hour."""
    most_pages: int = Field(default=20, ge=1)
    """Pages of a hundred transactions that one look reads at most; the next one goes on."""


class CryptoQuantSettings(OutsideSource):
    """CryptoQuant; not asked without a key."""

    base_url: str = "https://api.cryptoquant.com/v1"
    cache_seconds: float = Field(default=900.0, ge=0)
    api_key: SecretStr | None = None


class DuneSettings(OutsideSource):
    """A saved query of Dune with the columns hour, coin, inflow_usd, outflow_usd; not asked without key and query."""

    base_url: str = "https://api.dune.com/api/v1"
    cache_seconds: float = Field(default=0.0, ge=0)
    api_key: SecretStr | None = None
    query_id: int | None = Field(default=None, ge=1)
    coins: tuple[str, ...] = ()
    """Coins whose net flow is taken from the query."""
    poll_seconds: float = Field(default=3.0, gt=0)
    wait_seconds: float = Field(default=180.0, gt=0)
    """How long a query may run."""


class PolymarketSettings(OutsideSource):
    """Polymarket; needs no key."""

    base_url: str = "https://gamma-api.polymarket.com"
    clob_url: str = Field(default="https://clob.polymarket.com", pattern="^(https://.*|http://127\\.0\\.0\\.1[:/].*)$")
    interval_seconds: float = Field(default=0.3, ge=0)
    cache_seconds: float = Field(default=0.0, ge=0)
    tag: str = Field(default="crypto", pattern="^[a-z0-9-]+$")
    most_pages: int = Field(default=40, ge=1)
    """Pages of a hundred events."""
    most_histories: int = Field(default=150, ge=0)
    """Markets whose price history one look reads at most; each costs a request."""
    policy: OddsPolicy = OddsPolicy()


class FlowSettings(BaseModel):
    """Which transactions count, and how a day of them becomes a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thresholds: FlowThresholds = FlowThresholds()
    whale_score: WhaleScoreSpec = WhaleScoreSpec()


class AlternativeSettings(BaseModel):
    """Sources besides prices; those of the simulated market need neither keys nor network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coins: tuple[str, ...] = ()
    """Base currencies to ask about; empty means those of the traded symbols."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    max_bytes: int = Field(default=8_000_000, gt=0)
    """Longest answer that is read."""
    texts: TextLimits = TextLimits()
    fear_greed: FearGreedSettings = FearGreedSettings()
    coingecko: CoinGeckoSettings = CoinGeckoSettings()
    lunarcrush: LunarCrushSettings = LunarCrushSettings()
    rss: RssSettings = RssSettings()
    reddit: RedditSettings = RedditSettings()
    derivatives: DerivativesSettings = DerivativesSettings()
    whale_alert: WhaleAlertSettings = WhaleAlertSettings()
    cryptoquant: CryptoQuantSettings = CryptoQuantSettings()
    dune: DuneSettings = DuneSettings()
    polymarket: PolymarketSettings = PolymarketSettings()
    flows: FlowSettings = FlowSettings()


class ScorerName(StrEnum):
    """Who scores texts."""

    AUTO = "auto"
    LEXICON = "lexicon"
    TRANSFORMERS = "transformers"
    LLM = "llm"


class ClassifierSettings(BaseModel):
    """A sequence classifier in the format of Hugging Face transformers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ProsusAI/finbert"
    """A folder, or a name under which `hf download` has put the model into the local cache."""
    labels: dict[str, Annotated[float, Field(ge=-1, le=1)]] = {}
    """What the model's labels mean, where they are not called positive, negative, neutral or the like."""
    batch_size: int = Field(default=16, ge=1)
    max_tokens: int = Field(default=256, ge=8)
    """What follows in a text is not read."""


class MultilingualSettings(ClassifierSettings):
    """The model for texts that are not English; without one they have no score."""

    model: str = ""


class LlmSettings(BaseModel):
    """A language model behind an OpenAI-compatible endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(default="", pattern="^(https://.*|http://127\\.0\\.0\\.1[:/].*)?$")
    """Up to and including the version, such as https://host/v1; https, or 127.0.0.1."""
    model: str = ""
    api_key: SecretStr | None = None
    timeout_seconds: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=3, ge=1)
    """Tries for each text, after refusals and after answers that do not fit."""
    max_characters: int = Field(default=2_000, ge=100)
    """What follows in a text is not sent."""
    max_answer_tokens: int = Field(default=300, ge=50)
    max_tokens_per_run: int = Field(default=200_000, ge=1)
    """Tokens of questions and answers after which a run leaves the rest to the next one."""
    usd_per_million_asked: float = Field(default=0.0, ge=0)
    """Price of a million tokens of questions; none for an endpoint of one's own."""
    usd_per_million_answered: float = Field(default=0.0, ge=0)
    max_usd_per_run: float = Field(default=0.5, gt=0)
    """What a run may cost at these prices before it leaves the rest to the next one."""


class SentimentSettings(BaseModel):
    """How texts become a sentiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorer: ScorerName = ScorerName.AUTO
    """`auto` takes the classifier where its model is present, and the lexicon elsewhere."""
    classifier: ClassifierSettings = ClassifierSettings()
    multilingual: MultilingualSettings = MultilingualSettings()
    llm: LlmSettings = LlmSettings()
    aggregation: AggregationSpec = AggregationSpec()
    alerts: SentimentAlertSpec = SentimentAlertSpec()


class Settings(BaseSettings):
    """Validated settings; build with `load_settings`, which turns a mistake into one clear line."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    source: SourceName = SourceName.SIMULATED
    """Where candles come from: the simulated market, an archive of files, or an exchange through ccxt."""
    exchange: str = "simulated"
    """Exchange key, for example `bybit` or `binanceusdm`; the simulated source uses `simulated`."""
    symbols: Annotated[tuple[str, ...], NoDecode] = ()
    """Symbols to trade; empty means all that the source offers (simulated) or is an error (ccxt)."""
    base_timeframe: str = "5m"
    """Timeframe that is fetched; the longer ones are derived."""
    retention_days: dict[Timeframe, Annotated[int, Field(ge=7)]] = {}
    """For how many days candles of a timeframe are kept; one that is not named is kept for ever. On a small machine
    '{"5m": 30}' keeps the database at some hundred megabytes."""
    signal_timeframe: str = "15m"
    """Timeframe at whose closes features, predictions, scores and decisions are made."""
    archive_dir: Path | None = None
    """Folder of the archive source, laid out as `<exchange>/<SYMBOL>/<timeframe>.parquet`."""
    ccxt_base_url: str | None = None
    """Replaces the exchange's REST address, for tests and proxies."""
    data_dir: Path = Path(".data")
    """Everything the platform writes outside the database, and the embedded database itself."""
    database_url: SecretStr | None = None
    """PostgreSQL or TimescaleDB to use; empty starts the embedded server."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """DEBUG, INFO, WARNING or ERROR; for the files in the data folder's logs."""
    log_json: bool = False
    """One JSON object a line instead of text."""
    profile: Profile = Profile.STANDARD
    """What must be offered before a set-up becomes a signal; single `TRADING_SIGNALS__` variables win over it."""
    signals: SignalPolicy = SignalPolicy()
    execution: ExecutionParams = ExecutionParams()
    paper: VenueParams = VenueParams()
    """How the paper exchange fills beyond the execution model: liquidity, latency, slippage, leverage."""
    risk: RiskLimits = RiskLimits()
    alerts: AlertThresholds = AlertThresholds()
    training: TrainingSpec = TrainingSpec()
    drift: DriftSpec = DriftSpec()
    scoring: ScoringSpec = ScoringSpec()
    """Weights of the composite score's factors, and the limits around them."""
    simulation: SimulatedMarketSpec = SimulatedMarketSpec()
    repair: RepairSettings = RepairSettings()
    universe: UniverseRules = UniverseRules()
    doubts: DoubtRules = DoubtRules()
    """Which pairs of the exchange are worth a look; independent of what is traded."""
    session: SessionSettings = SessionSettings()
    fill: FillSettings = FillSettings()
    trader: TraderSettings = TraderSettings()
    collector: CollectorSettings = CollectorSettings()
    backtest: BacktestSettings = BacktestSettings()
    alternative: AlternativeSettings = AlternativeSettings()
    sentiment: SentimentSettings = SentimentSettings()
    orchestration: OrchestrationSettings = OrchestrationSettings()
    ports: Ports = Ports()

    @model_validator(mode="before")
    @classmethod
    def _start_from_profile(cls, values: Any) -> Any:
        """Let single `TRADING_SIGNALS__…` variables override the numbers of the chosen profile."""
        if isinstance(values, dict) and values.get("profile") in list(Profile):
            base = SignalPolicy.for_profile(Profile(values["profile"])).model_dump()
            override = values.get("signals") or {}
            if isinstance(override, dict):
                values["signals"] = {**base, **override}
        return values

    @field_validator("symbols", mode="before")
    @classmethod
    def _split_symbols(cls, value: Any) -> Any:
        return tuple(s.strip().upper() for s in value.split(",") if s.strip()) if isinstance(value, str) else value

    @field_validator("data_dir", "archive_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value is not None else None


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the settings.

    Raises
    ------
    SettingsError
        One line per wrong variable: its name, the value's fault and the value given.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except UnreadableValueError as error:
        raise SettingsError(f"{error}: write lists and objects as JSON, for example '[2.0, 3.5, 6.0]'") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_describe(e) for e in error.errors())) from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return load_settings()


def _refuse_unknown_variables() -> None:
    """A mistyped variable would otherwise be silently ignored, and a limit with it."""
    known = set(Settings.model_fields)
    for variable in os.environ:
        name = variable.removeprefix(ENV_PREFIX).split("__")[0].lower()
        if variable.startswith(ENV_PREFIX) and not variable.startswith(f"{ENV_PREFIX}TEST_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0].upper()}?" if near else "; see .env.example"
            raise SettingsError(f"{variable}: no such setting{hint}")


def _describe(error: Any) -> str:
    variable = ENV_PREFIX + "__".join(str(part) for part in error["loc"] if not isinstance(part, int)).upper()
    given = "" if error["type"] == "missing" or isinstance(error["input"], dict) else f" (given: {error['input']!r})"
    return f"{variable}: {error['msg']}{given}"
