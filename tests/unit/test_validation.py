"""Walk-forward splits: what is learnt from was known before what is judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from trading_pipelines.domain.validation.walk_forward import TimedFolds, WalkForward

MINUTE, DAY = np.timedelta64(1, "m"), np.timedelta64(1, "D")
TS = np.datetime64("2025-01-01", "m") + np.arange(0, 40 * 1440, 15) * MINUTE


@given(st.integers(1, 400), st.integers(0, 300), st.integers(1, 6), st.booleans())
def test_no_training_label_ends_inside_the_embargo(horizon: int, embargo: int, folds: int, anchored: bool) -> None:
    split = WalkForward(None if anchored else 20 * DAY, 3 * DAY, embargo * MINUTE, folds)
    seen = []
    for fold in split.split(TS, TS + horizon * MINUTE):
        assert len(fold.test) > 0
        assert (TS[fold.train] + (horizon + embargo) * MINUTE <= TS[fold.test[0]]).all()
        seen.append(fold.test)
    together = np.concatenate(seen)
    assert len(np.unique(together)) == len(together)
    assert together[-1] == len(TS) - 1


def test_rolling_window_has_its_length_and_an_anchored_one_begins_at_the_beginning() -> None:
    rolling, anchored = (WalkForward(length, 3 * DAY, 0 * MINUTE, 4) for length in (10 * DAY, None))
    for fold in rolling.split(TS, TS + 60 * MINUTE):
        assert TS[fold.test[0]] - TS[fold.train[0]] == 10 * DAY
    assert {int(fold.train[0]) for fold in anchored.split(TS, TS + 60 * MINUTE)} == {0}


def test_scikit_learn_takes_the_splits_as_they_are() -> None:
    draw = np.random.default_rng(2)
    features = draw.normal(size=(len(TS), 2))
    labels = (features[:, 0] + draw.normal(size=len(TS)) > 0).astype(int)
    folds = TimedFolds(WalkForward(20 * DAY, 3 * DAY, 60 * MINUTE, 5), TS, TS + 240 * MINUTE)
    scores = cross_val_score(LogisticRegression(), features, labels, cv=folds, scoring="roc_auc")
    assert len(scores) == folds.get_n_splits(features) == 5
    assert (scores > 0.75).all()


def test_rows_without_their_times_are_refused() -> None:
    folds = TimedFolds(WalkForward(None, 3 * DAY, 0 * MINUTE, 2), TS, TS)
    with pytest.raises(ValueError, match="7 rows, but times of 3840"):
        next(folds.split(np.zeros(7)))


def test_grid_search_takes_the_splits_as_they_are() -> None:
    draw = np.random.default_rng(3)
    features = draw.normal(size=(len(TS), 2))
    labels = (features[:, 0] * features[:, 1] > 0).astype(int)
    folds = TimedFolds(WalkForward(None, 3 * DAY, 60 * MINUTE, 4), TS, TS + 240 * MINUTE)
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 6]}, cv=folds, scoring="accuracy")
    search.fit(features, labels)
    assert search.n_splits_ == 4
    assert search.best_params_ == {"max_depth": 6}
    assert search.best_score_ > 0.8


def _share_of_right_sides(seed: int, *, purge: bool) -> float:
    """How often a model that knows nothing but the time names the side of a random walk's next day."""
    draw = np.random.default_rng(seed)
    day = 96
    walk = np.cumsum(draw.normal(size=len(TS) + day))
    labels = (walk[day:] > walk[:-day]).astype(int)
    label_end = TS + DAY
    folds = TimedFolds(WalkForward(10 * DAY, 240 * MINUTE, 0 * MINUTE, 60), TS, label_end if purge else TS)
    features = np.column_stack([np.arange(len(TS), dtype=float), draw.normal(size=len(TS))])
    return float(cross_val_score(KNeighborsClassifier(1), features, labels, cv=folds, scoring="accuracy").mean())


def test_dropping_the_purge_raises_the_score_on_noise_and_ours_stays_at_chance() -> None:
    """The nearest neighbour in time of a test row is a training row whose label is the test's own future."""
    seeds = range(5)
    leaky = [_share_of_right_sides(seed, purge=False) for seed in seeds]
    honest = [_share_of_right_sides(seed, purge=True) for seed in seeds]
    assert min(leaky) > 0.7
    assert abs(np.mean(honest) - 0.5) < 0.08
    assert np.mean(leaky) - np.mean(honest) > 0.2
