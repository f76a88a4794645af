"""Shares, average precision, confusion, intervals and calibration: by hand, and as scikit-learn and
scipy have them.
"""

from math import log

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, t
from sklearn.metrics import average_precision_score, confusion_matrix, top_k_accuracy_score

from pauc_hub.evaluation.classification import AveragePrecisions, score, top_k
from pauc_hub.evaluation.intervals import bootstrap, over_draws, wilson
from pauc_hub.evaluation.temperature import fit_temperature, reliability

NAMES = ["a", "b", "c"]


def random_scores(rows: int, classes: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Rounded, so that there are ties."""
    rng = np.random.default_rng(0)
    return rng.random((rows, classes)).round(decimals).astype(np.float32), rng.integers(
        0, classes, rows
    )


def test_shares_by_hand() -> None:
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8]], np.float32
    )
    found = score(probabilities, np.array([0, 0, 1, 2]), NAMES)
    assert found.totals["top1"].value == 3 / 4
    assert found.totals["mean_per_class"].value == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    first, _, last = found.classes
    assert (first.images, first.recall, first.precision) == (2, 1 / 2, 1)
    assert (last.images, last.recall, last.precision) == (1, 1, 1 / 2)
    assert "top5" not in found.totals  # with three classes it would always be 1


def test_shares_are_those_of_scikit_learn() -> None:
    probabilities, labels = random_scores(300, 8)
    found = score(probabilities, labels, [str(c) for c in range(8)])
    assert found.totals["top1"].value == (probabilities.argmax(axis=1) == labels).mean()
    untied = probabilities + np.linspace(0, 1e-4, 8, dtype=np.float32)
    assert top_k(untied, labels, 5).mean() == top_k_accuracy_score(labels, untied, k=5)
    np.testing.assert_array_equal(
        found.confusion, confusion_matrix(labels, probabilities.argmax(axis=1))
    )


def test_average_precision_is_that_of_scikit_learn_with_ties_and_weights() -> None:
    probabilities, labels = random_scores(200, 4, decimals=1)
    times = np.random.default_rng(1).integers(0, 3, 200).astype(np.float64)
    found = AveragePrecisions(probabilities, labels)(times)
    for c in range(4):
        expected = average_precision_score(labels == c, probabilities[:, c], sample_weight=times)
        assert found[c] == pytest.approx(expected)


def test_a_class_without_images_has_no_score() -> None:
    probabilities, _ = random_scores(20, 3)
    found = score(probabilities, np.arange(20) % 2, NAMES)
    assert np.isnan(found.classes[2].recall)
    assert np.isnan(found.classes[2].average_precision)
    assert found.classes[2].interval == pytest.approx((0, 1))
    assert 0 < found.totals["map"].value < 1


def test_several_labels_are_scored_by_average_precision() -> None:
    probabilities, _ = random_scores(100, 3)
    several = np.random.default_rng(2).integers(0, 2, (100, 3))
    found = score(probabilities, several, NAMES)
    assert set(found.totals) == {"map"}
    assert found.confusion is None
    assert found.totals["map"].value == pytest.approx(
        average_precision_score(several, probabilities, average="macro")
    )


def test_wilson_is_that_of_scipy() -> None:
    for successes, trials in ((0, 5), (3, 7), (50, 50)):
        expected = binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson(successes, trials) == pytest.approx((expected.low, expected.high))
    assert wilson(0, 0) == (0, 1)


def test_a_mean_over_draws_by_students_t() -> None:
    draws = [0.5, 0.6, 0.4, 0.7, 0.55]
    half = t.ppf(0.975, 4) * np.std(draws, ddof=1) / np.sqrt(5)
    assert over_draws(draws) == pytest.approx((np.mean(draws) - half, np.mean(draws) + half))
    with pytest.raises(ValueError, match="3 values, and not 5"):
        over_draws(draws[:3])


def test_a_score_that_no_resample_has_is_not_a_number() -> None:
    found = bootstrap(lambda times: np.array([times.mean(), np.nan]), 5, resamples=20)
    np.testing.assert_array_equal(found, [[1, 1], [np.nan, np.nan]])
    assert np.isnan(bootstrap(lambda _times: np.array([np.nan]), 5, resamples=20)).all()


def test_the_bootstrap_of_a_share_is_about_as_wide_as_wilson_and_wider_over_groups() -> None:
    hits = np.repeat(np.arange(100) % 4 > 0, 4).astype(np.float64)
    groups = np.repeat(np.arange(100), 4)

    def share(times: np.ndarray) -> np.ndarray:
        return np.array([times @ hits / times.sum()])

    [alone], [grouped] = (bootstrap(share, 400, given) for given in (None, groups))
    np.testing.assert_allclose(alone, wilson(300, 400), atol=0.01)
    np.testing.assert_allclose(grouped, wilson(75, 100), atol=0.02)
    np.testing.assert_array_equal(bootstrap(share, 400, seed=0), [alone])


def test_the_temperature_undoes_what_was_done_to_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(20_000, 3)) * 2)
    labels = (logits.softmax(dim=1).cumsum(dim=1) < torch.from_numpy(rng.random((20_000, 1)))).sum(
        dim=1
    )
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
    several = (logits.sigmoid() > torch.from_numpy(rng.random((20_000, 3)))).long()
    assert fit_temperature(logits / 2, several) == pytest.approx(1 / 2, rel=0.05)


def test_the_temperature_claims_no_certainty_where_all_are_right() -> None:
    logits = torch.tensor([[log(9), 0.0], [0.0, log(9)]])
    # Two rows, so targets of 1 - 1/4 + 1/8 = 7/8.
    assert fit_temperature(logits, torch.tensor([0, 1])) == pytest.approx(log(9) / log(7))
    assert fit_temperature(logits, torch.tensor([1, 0])) == pytest.approx(20)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.3, 0.3])
    correct = np.array([True, True, True, False, True, False])
    found = reliability(confidence, correct, bins=5)
    assert found.counts.tolist() == [0, 2, 0, 0, 4]
    assert found.accuracy.tolist() == [0, 1 / 2, 0, 0, 3 / 4]
    assert found.error == pytest.approx((4 * 0.15 + 2 * 0.2) / 6)
