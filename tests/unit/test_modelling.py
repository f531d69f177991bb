"""Training and the classifier: nothing of the test window is learnt, and what is learnt is calibrated."""

import numpy as np
import pytest

from trading_pipelines.domain.labeling.triple_barrier import RowLabels
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.classifier import (
    BinnedSamples,
    Classifier,
    InnerSplit,
    Samples,
    fit,
    temperature,
)
from trading_pipelines.domain.modelling.metrics import add_up, calibration_error, measure, simulate_trades
from trading_pipelines.domain.modelling.search import inner_windows, search
from trading_pipelines.domain.modelling.spec import SearchSpec, TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData

MINUTE, DAY = np.timedelta64(1, "m"), np.timedelta64(1, "D")


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
        model = _fit(data.samples.take(train), data.features, spec.model_copy(update={"feature_fraction": 1.0}))
        right.append((model.probability(data.samples.features[test]) > 0.5) == data.samples.labels[test])
    return float(np.concatenate(right).mean())


def _fit(samples: Samples, features: tuple[str, ...], spec: TrainingSpec) -> Classifier:
    """Fit on all rows, of which every fourth and the one after it stop and calibrate."""
    third = np.arange(len(samples)) % 4
    inner = InnerSplit(np.flatnonzero(third < 2), np.flatnonzero(third == 2), np.flatnonzero(third == 3))
    return fit(BinnedSamples(samples, features, spec), inner, spec)


SPEC = TrainingSpec(
    **{"train_days": 30, "test_days": 5, "folds": 3, "early_stopping_days": 5, "calibration_days": 5},
    **{"num_boost_round": 60, "min_boost_round": 20, "min_data_in_leaf": 20, "lambda_l2": 0.0},
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
    train, test = (_separable(48_000).take(np.arange(i, 48_000, 2)) for i in range(2))
    model = _fit(train, ("a", "b", "c"), SPEC)
    result = measure(model.probability(test.features), test.labels, 0.5, 0.52)
    assert result.auc is not None
    assert result.auc > 0.75
    assert result.skill > 0.1
    assert result.calibration_error < 0.06
    assert max(model.importance(), key=model.importance().__getitem__) == "a"
    contributions = model.contributions(test.features[:10])
    assert contributions.shape == (10, 3)
    assert np.abs(contributions[:, 0]).mean() > np.abs(contributions[:, 1:]).mean()


def test_same_inputs_give_the_same_bytes_and_the_artefact_predicts_the_same() -> None:
    samples = _separable()
    model = _fit(samples, ("a", "b", "c"), SPEC)
    first, second = model.to_bytes(), _fit(samples, ("a", "b", "c"), SPEC).to_bytes()
    assert first == second
    loaded = Classifier.from_bytes(first)
    np.testing.assert_array_equal(loaded.probability(samples.features), model.probability(samples.features))


def test_useless_scores_are_calibrated_to_a_coin() -> None:
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 500).astype(np.int8)
    assert temperature(np.where(labels == 1, -1.0, 1.0), labels, np.ones(500)) == 0.0
    assert temperature(np.zeros(500), labels, np.ones(500)) == 0.0
    assert temperature(draw.normal(size=500), labels, np.ones(500)) < 0.3


def test_doubt_shrinks_the_scores_the_more_the_fewer_samples_speak_for_them() -> None:
    draw = np.random.default_rng(4)
    raw = draw.normal(size=20_000)
    labels = (draw.random(20_000) < 1 / (1 + np.exp(-raw))).astype(np.int8)
    assert temperature(raw, labels, np.ones(20_000), prior=200.0) == pytest.approx(1.0, abs=0.1)
    few = [temperature(raw[:n], labels[:n], np.ones(n), prior=200.0, center=0.1) for n in (0, 50, 200, 2_000)]
    assert few == sorted(few)
    assert few[1] < 0.4
    none = temperature(raw[:5], labels[:5], np.ones(5), prior=1e9, center=0.1)
    assert none == pytest.approx(0.1, abs=1e-4)


def test_ranking_survives_a_calibration_that_believes_nothing() -> None:
    samples = _separable(4_000)
    rows = np.arange(4_000) % 4
    samples.labels[rows == 3] = 1 - samples.labels[rows == 3]
    spec = SPEC.model_copy(update={"calibration_prior": 0.0})
    inner = InnerSplit(np.flatnonzero(rows < 2), np.flatnonzero(rows == 2), np.flatnonzero(rows == 3))
    model = fit(BinnedSamples(samples, ("a", "b", "c"), spec), inner, spec)
    assert model.factor == spec.calibration_floor
    assert measure(model.probability(samples.features), _separable(4_000).labels, 0.5, 0.52).auc > 0.7  # type: ignore[operator]  # both classes occur


def test_metrics_of_perfect_and_of_constant_predictions() -> None:
    labels = np.array([0, 1, 0, 1], dtype=np.int8)
    perfect = measure(labels.astype(float), labels, 0.5, 0.52)
    assert (perfect.auc, perfect.precision, perfect.coverage) == (1.0, 1.0, 1.0)
    assert perfect.skill == pytest.approx(1.0, abs=1e-4)
    assert measure(np.full(4, 0.5), labels, 0.9, 0.52).skill == pytest.approx(0.0), "no better than a coin"
    constant = measure(np.full(4, 0.5), labels, 0.5, 0.52)
    assert (constant.auc, constant.precision, constant.coverage) == (0.5, None, 0.0)
    assert constant.skill == pytest.approx(0.0)


def test_calibration_error_is_the_gap_between_predicted_and_observed_frequency() -> None:
    labels = np.array([1, 1, 1, 0] * 100, dtype=np.int8)
    assert measure(np.full(400, 0.75), labels, 0.5, 0.52).calibration_error == pytest.approx(0.0)
    assert measure(np.full(400, 0.55), labels, 0.5, 0.52).calibration_error == pytest.approx(0.2)


def test_folds_that_err_in_turn_are_calibrated_together() -> None:
    ones, zeros = np.ones(100, dtype=np.int8), np.zeros(100, dtype=np.int8)
    folds = [measure(np.full(100, 0.5), labels, 0.5, 0.52) for labels in (ones, zeros)]
    assert [fold.calibration_error for fold in folds] == [0.5, 0.5]
    assert calibration_error(add_up(fold.reliability for fold in folds)) == 0.0
    pooled = training.pool(folds)
    assert (pooled.samples, pooled.auc, pooled.calibration_error) == (200, None, 0.0)


def test_model_learns_from_what_no_pattern_leaves_out() -> None:
    spec = TrainingSpec(excluded_features=("d1_*", "funding_rate"))
    names = ("ret_1", "d1_ret_5", "atr_14", "funding_rate", "rsi_14")
    assert training.model_inputs(names, {"atr_14"}, spec) == [0, 4]


def test_column_of_a_source_that_nobody_has_set_up_changes_nothing() -> None:
    data, spec = _noise(0), SPEC
    labels = RowLabels(data.samples.labels, data.label_end, data.samples.weights, np.zeros(len(data)))
    unknown = np.column_stack([data.samples.features, np.full(len(data), np.nan), np.full(len(data), 7.0)])
    assembled = training.assemble(data.known_at, unknown, (*data.features, "nobody", "same"), labels)

    assert assembled.features == data.features
    as_of = data.label_end[-1]
    artefacts = [training.fit_final(rows, as_of, spec) for rows in (data, assembled)]
    assert artefacts[0] is not None
    assert artefacts[0] == artefacts[1]


def test_contributions_name_the_feature_that_moves_predictions() -> None:
    draw = np.random.default_rng(3)
    features = draw.normal(size=(4_000, 4))
    labels = (features[:, 2] + 0.5 * draw.normal(size=4_000) > 0).astype(np.int8)
    names = ("a", "b", "moves", "d")
    booster = BinnedSamples(Samples(features, labels, np.ones(4_000)), names, SPEC).boost(SPEC, 30)
    classifier = Classifier(booster.model_to_string(), 1.0, names)

    shares = classifier.mean_contribution(features[:500])

    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["moves"] > 0.9


def test_column_that_is_known_for_a_part_of_the_time_is_kept() -> None:
    data = _noise(0)
    labels = RowLabels(data.samples.labels, data.label_end, data.samples.weights, np.zeros(len(data)))
    late = np.where(np.arange(len(data)) > 3_000, 7.0, np.nan)[:, None]
    assert training.assemble(data.known_at, late, ("late",), labels).features == ("late",)


def test_one_position_is_held_at_a_time_and_pays_its_costs() -> None:
    known_at = np.datetime64("2025-01-01", "us") + np.arange(4) * 15 * MINUTE
    label_end = known_at + 30 * MINUTE
    moves = np.array([0.02, 0.5, -0.01, np.nan])
    trades, profit = simulate_trades(np.array([0.6, 0.9, 0.3, 0.9]), known_at, label_end, moves, 0.55, 0.001)
    assert trades == 2
    assert profit == pytest.approx(0.02 - 0.001 * 2.02 + 0.01 - 0.001 * 1.99)
    assert simulate_trades(np.array([0.51]), known_at[:1], label_end[:1], moves[:1], 0.55, 0.001) == (0, 0.0)


def test_parts_of_a_training_window_are_purged_from_each_other() -> None:
    data = _noise(0)
    rows = np.arange(500, 3_500)
    inner = training.inner_split(data, rows, SPEC)
    for before, after in ((inner.train, inner.stop), (inner.stop, inner.calibration)):
        assert data.label_end[rows[before]].max() < data.known_at[rows[after]].min()
    assert inner.calibration[-1] == len(rows) - 1
    for older, judge in inner_windows(data, rows, SPEC):
        assert data.label_end[rows[older]].max() < data.known_at[rows[judge]].min()


def test_rows_outside_the_window_change_nothing_of_what_a_search_finds() -> None:
    spec = SPEC.model_copy(update={"search": SearchSpec(enabled=True, trials=4, startup_trials=2)})
    data, rows = _noise(1, bars=4_000), np.arange(500, 3_000)
    found = search(data, rows, spec, seed=3)
    outside = np.ones(len(data), dtype=bool)
    outside[rows] = False
    data.samples.features[outside] = 7.0
    data.samples.labels[outside] = 1
    assert search(data, rows, spec, seed=3) == found
    assert found.trials == 4
    assert found.score >= found.default_score
    for name in ("num_leaves", "learning_rate", "feature_fraction", "bagging_fraction"):
        low, high = getattr(spec.search, name)
        assert low <= found.parameters[name] <= high


def test_search_finds_nothing_in_noise_that_holds_out_of_sample() -> None:
    spec = SPEC.model_copy(update={"search": SearchSpec(enabled=True, trials=4, startup_trials=2)})
    aucs = []
    for seed in range(4):
        data = _noise(seed)
        for fold in training.folds_of(data, spec):
            found = search(data, fold.train, spec, seed)
            result = training.evaluate_fold(data, fold, training.tuned(spec, found.parameters))
            if result is not None and result.metrics.auc is not None:
                aucs.append(result.metrics.auc)
                assert result.parameters == found.parameters
    assert len(aucs) >= 8
    assert abs(np.mean(aucs) - 0.5) < 0.08
