"""Walk-forward splits: what is learnt from was known before what is judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

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
