"""Clustering again from bootstraps: matching one to one, and what holds."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.clustering.reclustering import match_one_to_one, recluster


def blobs(count: int, seed: int, spread: float = 0.05) -> Tensor:
    """The i-th near direction i % 4 of 6."""
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.eye(6)[torch.arange(count) % 4] + spread * noise, dim=1)


def test_matching_by_hand() -> None:
    """1 shares three with 0, 0 shares two with 0, which is taken, and one with 2; 2 shares nothing
    that is free.
    """
    reference = torch.tensor([0, 0, 0, 0, 0, 2, 0, 1])
    other = torch.tensor([1, 1, 1, 0, 0, 0, 2, 3])
    assert match_one_to_one(reference, other).tolist() == [2, 0, -1, 1]


def test_matching_shares_nearly_as_many_points_as_the_best_one() -> None:
    points = blobs(600, 0, spread=0.4)
    first, second = (kmeans(points, 20, seed=seed, backend="torch").assignment for seed in (0, 1))
    partner = match_one_to_one(first, second)
    joint = np.zeros((20, 20), np.int64)
    np.add.at(joint, (first.numpy(), second.numpy()), 1)
    best = joint[linear_sum_assignment(-joint)].sum()
    matched = int((partner[second] == first).sum())
    assert 0.9 * best <= matched <= best
    assert len({each for each in partner.tolist() if each >= 0}) == sum(
        each >= 0 for each in partner.tolist()
    )


def test_clear_clusters_are_found_again() -> None:
    points, evaluated = blobs(200, 0), blobs(40, 1)
    reference = torch.tensor([2, 0, 3, 1])[torch.arange(200) % 4]
    found = recluster(points, reference, (2, 4), evaluated, seed=5)
    assert found.matched.tolist() == reference[:40].tolist()
    assert found.labels.shape == (40, 2)
    assert len(torch.unique(found.labels[:, 0])) == 2
    again = recluster(points, reference, (2, 4), evaluated, seed=5)
    assert torch.equal(found.labels, again.labels)
