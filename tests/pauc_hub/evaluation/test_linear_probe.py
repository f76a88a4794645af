"""The linear probe: what is chosen, on which rows, and that no test row takes part."""

import numpy as np
import pytest
import torch

from pauc_hub.evaluation import linear_probe
from pauc_hub.evaluation.folds import fold_numbers, strata_of, units_of_each_class
from pauc_hub.evaluation.linear_probe import (
    LabelledRows,
    Resources,
    fit_probe,
    predict_out_of_fold,
    subsets,
)


def clusters(rows: int, width: int = 6, classes: int = 3, spread: float = 1.0) -> LabelledRows:
    rng = np.random.default_rng(1)
    labels = np.arange(rows) % classes
    centres = 2 * np.eye(classes, width)
    return LabelledRows(
        (centres[labels] + spread * rng.normal(size=(rows, width))).astype(np.float32),
        labels,
        classes,
    )


def test_folds_are_stratified_and_of_equal_size() -> None:
    labels = np.repeat([0, 1, 2], [50, 7, 23])
    folds = fold_numbers(labels, 5)
    assert np.bincount(folds).tolist() == [16] * 5
    for label, count in ((0, 50), (1, 7), (2, 23)):
        each = np.bincount(folds[labels == label], minlength=5)
        assert each.sum() == count
        assert each.max() - each.min() <= 1
    assert (fold_numbers(labels, 5, seed=1) != folds).any()


def test_groups_stay_together_and_are_spread() -> None:
    labels = np.repeat([0, 1], 60)
    groups = np.repeat(np.arange(24), 5)
    folds = fold_numbers(labels, 4, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(24))
    assert {tuple(np.bincount(folds[labels == c], minlength=4)) for c in (0, 1)} == {
        (15, 15, 15, 15)
    }


def test_of_several_labels_the_rarest_counts() -> None:
    several = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 1]])
    assert strata_of(several).tolist() == [1, 0, 2, 3, 2]
    assert units_of_each_class(several, 3).tolist() == [4, 1, 2]
    assert units_of_each_class(several, 3, np.array([0, 0, 0, 1, 1])).tolist() == [2, 1, 2]


def test_a_probe_separates_what_can_be_separated() -> None:
    data = clusters(900, spread=0.2)
    probe = fit_probe(data, np.arange(600), Resources())
    unseen = np.arange(600, 900)
    assert (
        probe.model.logits(data.features, unseen).argmax(dim=1).numpy() == data.targets[unseen]
    ).all()
    assert probe.folds == linear_probe.FOLDS  # a tenth of 600 would be too few to choose by
    assert probe.held_out == 600


def test_many_rows_are_judged_by_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "LEAST_HELD_OUT", 50)
    probe = fit_probe(clusters(600), np.arange(600), Resources())
    assert (probe.folds, probe.held_out) == (1, 60)


def test_rows_outside_are_never_looked_at() -> None:
    data = clusters(300)
    poisoned = LabelledRows(data.features.copy(), data.targets.copy(), 3)
    poisoned.features[200:] = np.nan
    poisoned.targets[200:] = 0
    rows = np.arange(200)
    first, second = (fit_probe(each, rows, Resources()).model for each in (data, poisoned))
    torch.testing.assert_close(first.weights, second.weights, rtol=0, atol=0)
    assert first.temperature == second.temperature


def test_noise_gets_strong_regularisation_and_the_path_ends_early() -> None:
    rng = np.random.default_rng(0)
    data = LabelledRows(rng.normal(size=(120, 80)).astype(np.float32), np.arange(120) % 2, 2)
    data.features[:, 0] += 3 * data.targets
    probe = fit_probe(data, np.arange(120), Resources())
    assert probe.l2 >= 0.1
    assert len(probe.path) < len(linear_probe.L2_VALUES)
    assert max(score for _, score in probe.path) == dict(probe.path)[probe.l2]


def test_copies_do_not_make_a_probe_look_good_where_groups_are_named() -> None:
    """Labels are random and each row comes five times: what is learned are the copies."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(60, 40)), 5, axis=0).astype(np.float32)
    targets = np.repeat(rng.integers(0, 2, 60), 5)
    groups = np.repeat(np.arange(60), 5)

    def accuracy(given: np.ndarray | None) -> float:
        probabilities, _ = predict_out_of_fold(
            LabelledRows(features, targets, 2, given), Resources()
        )
        return float((probabilities.argmax(dim=1).numpy() == targets).mean())

    assert accuracy(None) > 0.9
    assert accuracy(groups) < 0.65


def test_subsets_keep_the_shares_of_classes() -> None:
    labels = np.repeat([0, 1], [1000, 50])
    first, second = subsets(labels, 0.1, 2)
    assert np.bincount(labels[first]).tolist() == [100, 5]
    assert first.tolist() != second.tolist()
    assert np.bincount(labels[next(subsets(labels, 0.001, 1))]).tolist() == [2, 2]
