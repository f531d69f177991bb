"""What a training run is told: labels, windows, folds and the booster's parameters."""

from pydantic import BaseModel, ConfigDict, Field


class SearchSpec(BaseModel):
    """Search for booster parameters inside a fold's training window; the pairs are lower and upper bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    trials: int = Field(default=20, ge=2)
    """Sets of parameters that one search tries; the first is that of the training spec."""
    every: int = Field(default=10, ge=1)
    """Every so many folds a search is made, and serves until the next one; the final fit has its own."""
    windows: int = Field(default=2, ge=1)
    """Inner test windows, each as long as the early-stopping window, that score a trial one after the other."""
    startup_trials: int = Field(default=5, ge=1)
    """Trials at random before the sampler learns from them and poor ones are given up after their first window."""
    num_leaves: tuple[int, int] = (4, 31)
    min_data_in_leaf: tuple[int, int] = (50, 1000)
    learning_rate: tuple[float, float] = (0.02, 0.2)
    feature_fraction: tuple[float, float] = (0.3, 1.0)
    bagging_fraction: tuple[float, float] = (0.5, 1.0)
    lambda_l2: tuple[float, float] = (1.0, 100.0)


class TrainingSpec(BaseModel):
    """Walk-forward training of one symbol and timeframe; durations in days unless named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_barrier_atr: float = Field(default=2.0, gt=0)
    """Upper and lower barrier of the triple-barrier label, in ATR."""
    label_horizon_minutes: int = Field(default=240, gt=0)
    """Vertical barrier."""
    cost_rate: float = Field(default=0.00105, ge=0, lt=0.1)
    """Fee and slippage of one fill, as a share of its notional, for the profit that a fold would have made."""
    train_days: int = Field(default=180, ge=7)
    """Length of the training window of a fold."""
    anchored: bool = False
    """Let the windows begin where the first fold's begins and grow, instead of rolling on."""
    test_days: int = Field(default=7, ge=1)
    """Length of the out-of-sample window of a fold, and the step between folds."""
    folds: int = Field(default=4, ge=1)
    """Out-of-sample folds that precede the final fit; they give the version its metrics."""
    embargo_minutes: int = Field(default=60, ge=0)
    """Time after the label horizon that stays out of training as well."""
    early_stopping_days: int = Field(default=21, ge=2)
    """Part of the training window, before the calibration's, by which a fit is stopped early."""
    calibration_days: int = Field(default=21, ge=2)
    """Tail of the training window by which probabilities are calibrated."""
    calibration_prior: float = Field(default=500.0, ge=0)
    """Samples' worth of belief that a booster's log-odds have to be multiplied by `calibration_center`."""
    calibration_center: float = Field(default=0.1, ge=0, le=1)
    calibration_floor: float = Field(default=0.02, ge=0, le=1)
    """Smallest factor. With 0 a bad month would take the ranking away with the confidence."""
    excluded_features: tuple[str, ...] = ("d1_*", "h4_*", "funding_rate", "week_*")
    """Patterns of features that are no input of the model. These hardly change while a label lives, so a booster learns
    from them which week it is in, and what the price did in it."""
    num_boost_round: int = Field(default=100, ge=1)
    min_boost_round: int = Field(default=60, ge=1)
    """Rounds before which no fit is stopped."""
    early_stopping_rounds: int = Field(default=20, ge=1)
    """Rounds without a better ranking after which a fit is stopped."""
    max_bin: int = Field(default=63, ge=15, le=255)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    num_leaves: int = Field(default=15, ge=2)
    min_data_in_leaf: int = Field(default=200, ge=1)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)
    bagging_fraction: float = Field(default=0.8, gt=0, le=1)
    lambda_l2: float = Field(default=10.0, ge=0)
    min_skill: float = Field(default=0.0, ge=-1, lt=1)
    """A version goes into production when its out-of-sample log loss is below the base rate's by this share."""
    min_improvement: float = Field(default=0.0005, ge=0, lt=1)
    """A version of another recipe than the one in production has to be better than that one by this much as well."""
    min_refresh: float = Field(default=-0.001, gt=-1, lt=1)
    """The same for the same recipe with newer data; below zero it may be that much worse, for age alone is a fault."""
    min_comparison_rows: int = Field(default=500, ge=1)
    """Labelled bars since the training of the version in production from which the two are compared on these bars;
    with fewer it is by each one's own folds."""
    confidence_threshold: float = Field(default=0.52, ge=0.5, lt=1)
    """Confidence from which predictions count for precision and coverage."""
    seed: int = 7
    processes: int = Field(default=2, ge=1)
    """Processes that share the folds, one OpenMP thread each."""
    helpers_from_s: float = Field(default=8.0, ge=0)
    """Seconds of work left from which it is worth starting the other processes."""
    search: SearchSpec = SearchSpec()
