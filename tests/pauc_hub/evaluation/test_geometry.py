"""Geometry of features against numpy and by hand."""

import numpy as np
import pytest
import torch

from pauc_hub.evaluation.geometry import correlation, intra_share, jackknife, matched_accuracy
from pauc_hub.training.monitoring.diagnostics import spread

RNG = np.random.default_rng(0)


def test_correlation_is_that_of_numpy() -> None:
    points = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4))
    matrix = np.asarray(np.corrcoef(points.T))
    wanted = np.sqrt((matrix**2)[~np.eye(4, dtype=bool)].mean())
    assert correlation(torch.from_numpy(points)) == pytest.approx(wanted)
    # a dimension that does not vary says nothing
    wider = np.column_stack([points, np.full(50, 3.0)])
    assert correlation(torch.from_numpy(wider)) == pytest.approx(wanted)


def test_intra_share_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [14.0, 0.0], [4.0, 0.0]])
    # squares within: 1 and 4 on average, one alone does not count; means 1, 12 and 4 about 6
    assert intra_share(points, torch.tensor([5, 5, 9, 9, 0])) == pytest.approx(
        2.5 / (2.5 + (2 * 25 + 2 * 36 + 4) / 5)
    )


def test_intra_share_is_that_of_training() -> None:
    points = torch.from_numpy(RNG.normal(size=(40, 5))).float()
    clusters = torch.arange(40) % 6
    assert intra_share(points, clusters) == pytest.approx(
        spread(points, clusters, 6)["intra_share"], rel=1e-5
    )


def test_clusters_are_matched_one_to_one() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    clusters = np.array([7, 7, 3, 7, 3, 5])
    assert matched_accuracy(clusters, labels) == pytest.approx((2 + 1 + 1) / 6)


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = RNG.normal(size=10)
    low, high = jackknife(lambda kept: float(values[kept].mean()), 10)
    half = 2.2621571627409915 * values.std(ddof=1) / np.sqrt(10)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert np.isnan(jackknife(lambda kept: float(values[kept].mean()), 9)).all()
