"""Concentrations and prototypes against hand values, and in the corners of method.md §3."""

from math import log

import pytest
import torch

from pauc_hub.clustering.kmeans import Clustering
from pauc_hub.clustering.prototypes import concentration, describe_clusters
from pauc_hub.errors import TrainingFailed


def test_concentration_by_hand() -> None:
    """Ten prototypes of 5 members; distance sums 1 to 10. The clip at the 10th and 90th percentile, then the scale."""
    sums = torch.arange(1.0, 11.0)
    found = concentration(sums, torch.full((10,), 5), temperature=0.2)
    raw = [total / (5 * log(5 + 10)) for total in range(1, 11)]
    low, high = raw[0] + 0.9 * (raw[1] - raw[0]), raw[8] + 0.1 * (raw[9] - raw[8])  # percentiles between the ranks
    clipped = [min(max(each, low), high) for each in raw]
    expected = [0.2 * each * 10 / sum(clipped) for each in clipped]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_mean_concentration_is_the_temperature_and_looser_is_larger() -> None:
    sums, sizes = torch.tensor([4.0, 8.0, 2.0, 6.0]), torch.full((4,), 8)
    found = concentration(sums, sizes, temperature=0.1)
    assert found.mean().item() == pytest.approx(0.1, rel=1e-6)
    assert found.argsort().tolist() == sums.argsort().tolist()


def test_at_equal_mean_distance_a_larger_cluster_is_more_concentrated() -> None:
    sizes = torch.tensor([2, 2, 2, 200, 200, 200])
    found = concentration(0.5 * sizes, sizes, temperature=1.0)
    assert found[3].item() < found[0].item()
    assert (found[0] / found[3]).item() == pytest.approx(log(210) / log(12), rel=1e-5)


@pytest.mark.parametrize("size", [0, 1])
def test_a_prototype_with_at_most_one_member_gets_the_largest_of_the_others(size: int) -> None:
    found = concentration(torch.tensor([3.0, 5.0, 0.0]), torch.tensor([4, 4, size]), temperature=1.0)
    assert found[2].item() == found.max().item() == found[1].item()
    assert found[0].item() < found[2].item()


def test_a_collapsed_clustering_is_an_error_that_says_what_to_try() -> None:
    with pytest.raises(TrainingFailed, match=r"collapsed.*--lr.*--clusters"):
        concentration(torch.zeros(3), torch.tensor([5, 5, 5]), temperature=0.2)


def clustering(points: torch.Tensor, assignment: list[int]) -> Clustering:
    return Clustering(torch.zeros(max(assignment) + 1, points.shape[1]), torch.tensor(assignment), (0.0,), 0)


def test_prototypes_are_the_unit_means_of_their_members() -> None:
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0], [0.28, 0.96]])
    found, own = describe_clusters(points, clustering(points, [0, 0, 1, 1, 1]), temperature=0.2)
    mean = torch.tensor([0.8, 0.4])
    assert found.centroids[0].tolist() == pytest.approx((mean / mean.norm()).tolist(), abs=1e-6)
    assert found.sizes.tolist() == [2, 3]
    expected = ((points[0] - mean).norm() + (points[1] - mean).norm()) / 2
    assert found.radius[0].item() == pytest.approx(expected.item(), abs=1e-6)  # to the mean before normalisation
    assert own.tolist() == [0, 0, 1, 1, 1]


def test_prototypes_that_nobody_was_assigned_to_are_left_out() -> None:
    points = torch.eye(6)
    found, own = describe_clusters(points, clustering(points, [5, 5, 2, 2, 9, 9]), temperature=0.2)
    assert len(found.sizes) == 3
    assert own.tolist() == [1, 1, 0, 0, 2, 2]  # counted among those in use, in the order of their numbers


def test_parents_are_the_nearest_of_the_coarser_clustering() -> None:
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.9, -0.1], [0.0, 1.0], [0.1, 0.9], [-0.1, 0.9]])
    coarse, _ = describe_clusters(points, clustering(points, [0, 0, 0, 1, 1, 1]), 0.2)
    fine, _ = describe_clusters(points, clustering(points, [3, 3, 2, 1, 0, 0]), 0.2, coarser=coarse)
    assert coarse.parents is None
    assert fine.parents is not None
    assert fine.parents.tolist() == [1, 1, 0, 0]
