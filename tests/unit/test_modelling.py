"""Labels, splits and the classifier: nothing of the test window reaches the training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.labeling.triple_barrier import label_bars, uniqueness_weights
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.classifier import Classifier, Samples, fit, temperature
from trading_pipelines.domain.modelling.metrics import measure
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.domain.validation.walk_forward import WalkForward

MINUTE, DAY = np.timedelta64(1, "m"), np.timedelta64(1, "D")


def _label(
    close: list[float], high: dict[int, float] | None = None, low: dict[int, float] | None = None, horizon: int = 3
):
    c = np.array(close)
    h, lo = c.copy(), c.copy()
    for i, value in (high or {}).items():
        h[i] = value
    for i, value in (low or {}).items():
        lo[i] = value
    return label_bars(c.copy(), h, lo, c, np.ones(len(c)), 2.0, horizon)


def test_barrier_that_is_reached_first_gives_the_label() -> None:
    up = _label([100, 100, 100, 100, 100], high={2: 102.0}, low={3: 97.0})
    assert (up.value[0], up.end[0]) == (1, 2)
    down = _label([100, 100, 100, 100, 100], high={3: 103.0}, low={1: 98.0})
    assert (down.value[0], down.end[0]) == (0, 1)


def test_sign_of_the_return_decides_at_the_time_limit() -> None:
    labels = _label([100, 100.5, 100.2, 100.1, 100.0])
    assert (labels.value[0], labels.end[0]) == (1, 3)


def test_label_is_unknown_until_its_future_is_there() -> None:
    labels = _label([100, 100, 100, 100])
    assert labels.value.tolist() == [0, -1, -1, -1]
    assert labels.end.tolist() == [3, -1, -1, -1]


def test_bar_without_atr_has_no_label() -> None:
    c = np.full(5, 100.0)
    assert label_bars(c, c, c, c, np.array([np.nan, 0, 1, 1, 1]), 2.0, 2).value.tolist() == [-1, -1, 0, -1, -1]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_uniqueness_is_one_over_the_labels_alive(lengths: list[int]) -> None:
    end = np.array([min(i + n, len(lengths) - 1) for i, n in enumerate(lengths)])
    alive = [sum(i <= t <= end[i] for i in range(len(end))) for t in range(len(end))]
    expected = [np.mean([1 / alive[t] for t in range(i, end[i] + 1)]) for i in range(len(end))]
    np.testing.assert_allclose(uniqueness_weights(end), expected)


@given(st.integers(1, 400), st.integers(0, 300), st.integers(1, 6), st.booleans())
def test_no_training_label_ends_inside_the_embargo(horizon: int, embargo: int, folds: int, anchored: bool) -> None:
    ts = np.datetime64("2025-01-01", "m") + np.arange(0, 40 * 1440, 15) * MINUTE
    split = WalkForward(None if anchored else 20 * DAY, 3 * DAY, embargo * MINUTE, folds)
    seen = []
    for fold in split.split(ts, ts + horizon * MINUTE):
        assert len(fold.test) > 0
        assert (ts[fold.train] + (horizon + embargo) * MINUTE <= ts[fold.test[0]]).all()
        seen.append(fold.test)
    together = np.concatenate(seen)
    assert len(np.unique(together)) == len(together)
    assert together[-1] == len(ts) - 1


def _noise(seed: int, bars: int = 6_000, overlap: int = 96) -> TrainingData:
    """Features that only name the moment, labels that overlap: learnable by heart, useless in truth."""
    draw = np.random.default_rng(seed)
    walk = np.cumsum(draw.normal(size=bars + overlap))
    ts = np.datetime64("2025-01-01", "us") + np.arange(bars) * 15 * MINUTE
    moment = np.arange(bars, dtype=float)
    features = np.column_stack([moment, draw.normal(size=(bars, 4))])
    labels = (walk[overlap:] > walk[:-overlap]).astype(np.int8)
    samples = Samples(features, labels, np.full(bars, 1 / overlap))
    return TrainingData(ts, ts + overlap * 15 * MINUTE, samples, tuple(f"f{i}" for i in range(5)))


def _accuracy_inside(data: TrainingData, spec: TrainingSpec, *, purge: bool) -> float:
    """Share of right predictions on stretches of four hours inside the training data, with or without the purge."""
    right = []
    for day in range(5, 60, 8):
        start = data.known_at[0] + day * DAY
        test = (data.known_at >= start) & (data.known_at < start + 240 * MINUTE)
        train = ~test
        if purge:
            train &= (data.label_end <= start) | (data.known_at >= data.label_end[test].max())
        samples = data.samples.take(train)
        model = fit(samples, samples, data.features, spec.model_copy(update={"feature_fraction": 1.0}))
        right.append((model.probability(data.samples.features[test]) > 0.5) == data.samples.labels[test])
    return float(np.concatenate(right).mean())


SPEC = TrainingSpec(
    train_days=30, test_days=5, folds=3, early_stopping_days=6, num_boost_round=60, min_data_in_leaf=20, lambda_l2=0.0
)


def test_dropping_the_purge_makes_noise_look_predictable() -> None:
    sets = [_noise(seed) for seed in range(3)]
    leaky = np.mean([_accuracy_inside(data, SPEC, purge=False) for data in sets])
    honest = np.mean([_accuracy_inside(data, SPEC, purge=True) for data in sets])
    assert leaky > 0.65
    assert honest < 0.58


def test_walk_forward_finds_nothing_in_noise() -> None:
    aucs = []
    for seed in range(6):
        data = _noise(seed)
        for fold in training.splitter(SPEC).split(data.known_at, data.label_end):
            result = training.evaluate_fold(data, fold, SPEC)
            if result is not None and result.metrics.auc is not None:
                aucs.append(result.metrics.auc)
    assert len(aucs) >= 12
    assert abs(np.mean(aucs) - 0.5) < 0.06


def _separable(rows: int = 2_000) -> Samples:
    draw = np.random.default_rng(5)
    features = draw.normal(size=(rows, 3))
    probability = 1 / (1 + np.exp(-2 * features[:, 0]))
    return Samples(features, (draw.random(rows) < probability).astype(np.int8), np.ones(rows))


def test_real_structure_is_found_and_calibrated() -> None:
    train, inner, test = (_separable().take(np.arange(i, 2_000, 3)) for i in range(3))
    model = fit(train, inner, ("a", "b", "c"), SPEC)
    result = measure(model.probability(test.features), test.labels, 0.5, 0.52)
    assert result.auc is not None
    assert result.auc > 0.75
    assert result.skill > 0.1
    assert result.calibration_error < 0.1
    assert max(model.importance(), key=model.importance().__getitem__) == "a"
    contributions = model.contributions(test.features[:10])
    assert contributions.shape == (10, 3)
    assert np.abs(contributions[:, 0]).mean() > np.abs(contributions[:, 1:]).mean()


def test_same_inputs_give_the_same_bytes_and_the_artefact_predicts_the_same() -> None:
    samples = _separable()
    first, second = (fit(samples, samples, ("a", "b", "c"), SPEC).to_bytes() for _ in range(2))
    assert first == second
    loaded = Classifier.from_bytes(first)
    np.testing.assert_array_equal(
        loaded.probability(samples.features), fit(samples, samples, ("a", "b", "c"), SPEC).probability(samples.features)
    )


def test_useless_scores_are_calibrated_to_a_coin() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 500).astype(np.int8)
    assert temperature(np.where(labels == 1, -1.0, 1.0), labels, np.ones(500)) == 0.0
    assert temperature(np.zeros(500), labels, np.ones(500)) == 0.0
    assert temperature(draw.normal(size=500), labels, np.ones(500)) < 0.3


def test_metrics_of_perfect_and_of_constant_predictions() -> None:
    labels = np.array([0, 1, 0, 1], dtype=np.int8)
    perfect = measure(labels.astype(float), labels, 0.5, 0.52)
    assert (perfect.auc, perfect.precision, perfect.coverage) == (1.0, 1.0, 1.0)
    assert perfect.skill == pytest.approx(1.0, abs=1e-4)
    constant = measure(np.full(4, 0.5), labels, 0.5, 0.52)
    assert (constant.auc, constant.precision, constant.coverage) == (0.5, None, 0.0)
    assert constant.skill == pytest.approx(0.0)
