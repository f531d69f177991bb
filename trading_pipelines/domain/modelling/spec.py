"""What a training run is told: labels, windows, folds and the booster's parameters."""

from pydantic import BaseModel, ConfigDict, Field


class TrainingSpec(BaseModel):
    """Walk-forward training of one symbol and timeframe; durations in days unless named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_barrier_atr: float = Field(default=2.0, gt=0)
    """Upper and lower barrier of the triple-barrier label, in ATR."""
    label_horizon_minutes: int = Field(default=240, gt=0)
    """Vertical barrier."""
    train_days: int = Field(default=180, ge=7)
    """Length of the training window of a fold."""
    test_days: int = Field(default=7, ge=1)
    """Length of the out-of-sample window of a fold, and the step between folds."""
    folds: int = Field(default=4, ge=1)
    """Out-of-sample folds that precede the final fit; they give the version its metrics."""
    embargo_minutes: int = Field(default=60, ge=0)
    """Time after the label horizon that stays out of training as well."""
    early_stopping_days: int = Field(default=21, ge=2)
    """Tail of the training window used for early stopping and calibration."""
    excluded_features: tuple[str, ...] = ("d1_*", "h4_*", "funding_rate", "week_*")
    """Patterns of features that are no input of the model. These hardly change while a label lives, so a booster learns
    from them which week it is in, and what the price did in it."""
    num_boost_round: int = Field(default=150, ge=1)
    early_stopping_rounds: int = Field(default=20, ge=1)
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
    confidence_threshold: float = Field(default=0.52, ge=0.5, lt=1)
    """Confidence from which predictions count for precision and coverage."""
    seed: int = 7
    processes: int = Field(default=2, ge=1)
    """Folds trained side by side, one OpenMP thread each."""
