"""What a source adds to a model: found where it does, and not where it is noise."""

import numpy as np
import pytest

from trading_pipelines.domain.modelling.ablation import ablate_sources, without
from trading_pipelines.domain.modelling.classifier import Samples
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData

SPEC = TrainingSpec(
    train_days=30,
    test_days=6,
    folds=10,
    num_boost_round=40,
    min_boost_round=5,
    early_stopping_days=4,
    calibration_days=4,
)
HOUR = np.timedelta64(60, "m")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Three months of hours in which one feature tells something, another repeats it, and the others are noise."""
    draw = np.random.default_rng(5)
    hours = 24 * 95
    news = draw.normal(size=hours)
    labels = (news + 1.5 * draw.normal(size=hours) > 0).astype(np.int8)
    features = np.column_stack([draw.normal(size=(hours, 2)), news, draw.normal(size=hours)])
    known_at = np.datetime64("2025-01-01", "us") + np.arange(hours) * HOUR
    return TrainingData(known_at, known_at + HOUR, Samples(features, labels, np.ones(hours)), ("a", "b", "news", "c"))


def test_source_that_tells_something_is_found_and_noise_is_not(data: TrainingData) -> None:
    fits: list[tuple[int, int]] = []
    sources = {"candles": ("a", "b"), "news": ("news",), "flow": ("c", "never stored"), "nobody": ("nothing",)}
    found = ablate_sources(data, SPEC, sources, block_days=2, samples=400, on_fit=lambda *done: fits.append(done))

    assert [each.source for each in found] == ["candles", "news", "flow"]
    assert found[2].features == ("c",)
    assert [each.source for each in found if each.log_loss.comparison.low > 0] == ["news"]
    news = found[1]
    assert news.auc.comparison.difference > 0.1
    assert news.log_loss.comparison.periods >= 59
    assert news.auc.comparison.periods == SPEC.folds
    assert fits == [(n, 4 * SPEC.folds) for n in range(1, 4 * SPEC.folds + 1)]


def test_two_sources_that_say_the_same_add_nothing_each(data: TrainingData) -> None:
    twice = np.column_stack([data.samples.features, data.samples.features[:, 2]])
    doubled = TrainingData(
        data.known_at,
        data.label_end,
        Samples(twice, data.samples.labels, data.samples.weights),
        (*data.features, "echo"),
    )
    spec = SPEC.model_copy(update={"feature_fraction": 1.0})
    found = ablate_sources(doubled, spec, {"news": ("news",), "echo": ("echo",)}, block_days=2, samples=400)

    assert [abs(each.auc.comparison.difference) < 0.02 for each in found] == [True, True]


def test_leaving_features_out_keeps_rows_and_the_order_of_the_others(data: TrainingData) -> None:
    rest = without(data, ("news", "a"))

    assert rest.features == ("b", "c")
    np.testing.assert_array_equal(rest.samples.features, data.samples.features[:, [1, 3]])
    np.testing.assert_array_equal(rest.samples.labels, data.samples.labels)
