"""Low-shot SVMs: the draws, the two conventions for difficult objects, and VOC's average precision
by hand.
"""

import random

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from pauc_hub.evaluation.low_shot import (
    draw_with_repeats,
    interpolated_precision,
    low_shot_accuracy,
    nearly_unit_rows,
    pcl_voc07,
    vissl_voc07,
)


def multilabel(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell three classes, of which an image may have several or none; a tenth is
    difficult.
    """
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random((rows, 3)) < 0.4, 1, -1)
    features = signs @ np.eye(3, 8) + 0.7 * rng.normal(size=(rows, 8))
    signs[rng.random((rows, 3)) < 0.1] = 0
    return features.astype(np.float32), signs


def test_interpolated_precision_by_hand() -> None:
    positive = np.array([False, True, True, False, True])
    # Precision at the hits, in order of score: 1/2, 2/3, 3/5; interpolated to the largest that
    # follows.
    assert interpolated_precision(np.array([5, 4, 3, 2, 1.0]), positive) == pytest.approx(
        (2 / 3 + 2 / 3 + 3 / 5) / 3
    )
    assert interpolated_precision(np.array([1, 5, 4, 2, 3.0]), positive) == 1


def test_draws_are_those_of_the_published_script() -> None:
    signs = np.array([[1, -1], [1, 1], [-1, 1], [1, 0], [-1, 1]])
    rng = random.Random(0)
    drawn = draw_with_repeats(signs, 2, rng.shuffle)
    again = random.Random(0)
    first, second = [0, 1, 3], [1, 2, 4]
    again.shuffle(first)
    again.shuffle(second)
    assert drawn.tolist() == first[:2] + second[:2]
    everything = draw_with_repeats(signs, 3, random.Random(0).shuffle)
    assert sorted(everything) == [0, 1, 1, 2, 3, 4]  # row 1 is of both classes


def test_difficult_objects_are_negatives_for_pcl_and_left_out_for_vissl() -> None:
    train, train_signs = multilabel(80, 0)
    test, test_signs = multilabel(60, 1)
    pcl = pcl_voc07(train, train_signs, test, test_signs)
    vissl = vissl_voc07(train, train_signs, test, test_signs)
    negative = np.where(train_signs == 0, -1, train_signs)
    model = LinearSVC(C=0.5, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=0)
    model.fit(nearly_unit_rows(train), negative[:, 0])
    scores = model.decision_function(nearly_unit_rows(test))
    assert pcl.classes[0] == pytest.approx(interpolated_precision(scores, test_signs[:, 0] > 0))
    assert pcl.full == pytest.approx(np.mean(pcl.classes))
    assert pcl.full != vissl.full
    without = np.where(test_signs == 0, -1, test_signs)
    assert vissl_voc07(train, negative, test, without).full == pytest.approx(pcl.full)
    assert [shot.k for shot in pcl.shots] == [1, 2, 4, 8, 16]
    assert pcl.shots[-1].mean > pcl.shots[0].mean


def test_low_shot_accuracy_grows_with_the_shots() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = (np.eye(3, 10)[labels] + 0.4 * rng.normal(size=(120, 10))).astype(np.float32)
    found = low_shot_accuracy(features, labels, (features[60:], labels[60:]), None)
    assert [shot.k for shot in found] == [1, 2, 4, 8, 16]
    assert found[-1].mean > found[0].mean
    assert all(shot.interval[0] <= shot.mean <= shot.interval[1] for shot in found)
    few = low_shot_accuracy(features[:12], labels[:12], None, None)
    # four images a class, and one at least is asked about
    assert [shot.k for shot in few] == [1, 2]


def test_what_shares_a_group_with_a_drawn_row_is_not_asked_about() -> None:
    """Labels are random and each row comes four times: without groups its copies answer."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(20, 30)), 4, axis=0).astype(np.float32)
    labels = np.repeat(np.arange(20) % 2, 4)
    groups = np.repeat(np.arange(20), 4)
    alone, grouped = (
        low_shot_accuracy(features, labels, None, given)[-1].mean for given in (None, groups)
    )
    assert alone > grouped + 0.1


def test_rows_get_about_unit_length() -> None:
    np.testing.assert_allclose(
        nearly_unit_rows(np.array([[3.0, 4.0]])), [[3 / 5.00001, 4 / 5.00001]], rtol=1e-6
    )
    assert nearly_unit_rows(np.zeros((1, 2))).tolist() == [[0, 0]]
