"""Concentrations and prototypes against hand values, and in the corners of method.md §3."""

from math import log

import pytest
import torch

from pauc_hub.clustering.kmeans import Clustering, count_distinct
from pauc_hub.clustering.prototypes import concentration, describe_clusters
from pauc_hub.errors import TooFewDistinct


def test_concentration_by_hand() -> None:
    """Ten prototypes of 5 members; distance sums 1 to 10: half the median and the 90th percentile,
    then the scale.
    """
    sums = torch.arange(1.0, 11.0)
    found = concentration(sums, torch.full((10,), 5), temperature=0.2)
    raw = [total / (5 * log(5 + 10)) for total in range(1, 11)]
    # percentiles between the ranks
    low, high = (raw[4] + raw[5]) / 2 / 2, raw[8] + 0.1 * (raw[9] - raw[8])
    clipped = [min(max(each, low), high) for each in raw]
    expected = [0.2 * each * 10 / sum(clipped) for each in clipped]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_tenth_percentile_is_the_floor_where_it_is_above_half_the_median() -> None:
    """Distance sums 11 to 20, of 5 members each."""
    sums = torch.arange(11.0, 21.0)
    found = concentration(sums, torch.full((10,), 5), temperature=1.0)
    clipped = [min(max(total, 11.9), 19.1) for total in range(11, 21)]
    assert found.tolist() == pytest.approx([each * 10 / sum(clipped) for each in clipped], rel=1e-5)


@pytest.mark.parametrize("copies", [0.0, 4e-7])
def test_clusters_of_copies_count_as_singletons(copies: float) -> None:
    """Nine of ten hold copies of one image, so that the 10th percentile and the median of the raw
    values are 0.
    """
    sums, sizes = torch.full((10,), 7 * copies), torch.full((10,), 7)
    sums[3] = 2.1
    assert concentration(sums, sizes, temperature=0.2).tolist() == pytest.approx(
        [0.2] * 10, rel=1e-5
    )


def test_no_concentration_dominates_the_logits() -> None:
    """Where a third of the clusters is nearly copies, the 10th percentile is as small as they
    are.
    """
    sums, sizes = torch.full((9,), 5.0), torch.full((9,), 10)
    sums[:3] = 1e-3
    found = concentration(sums, sizes, temperature=0.2)
    assert found.tolist() == pytest.approx(
        [0.2 * 0.5 / (7.5 / 9)] * 3 + [0.2 / (7.5 / 9)] * 6, rel=1e-5
    )


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
    found = concentration(
        torch.tensor([3.0, 5.0, 0.0]), torch.tensor([4, 4, size]), temperature=1.0
    )
    assert found[2].item() == found.max().item() == found[1].item()
    assert found[0].item() < found[2].item()


def test_clusters_of_copies_alone_are_an_error_that_counts_what_differs() -> None:
    """Three different rows, two clusters of the first of them."""
    points = torch.eye(4)[[0, 0, 1, 1, 2, 0, 0]]
    with pytest.raises(
        TooFewDistinct, match=r"^7 points hold 3 distinct ones: too few for 5 clusters\.$"
    ) as refused:
        describe_clusters(points, clustering(points, [0, 0, 1, 1, 2, 4, 4]), temperature=0.2)
    assert (refused.value.distinct, refused.value.clusters) == (3, 5)


def test_copies_are_one_though_batches_round_otherwise() -> None:
    rows = torch.eye(4)[[0, 1, 0, 1]]
    rows[2:] += 1e-6
    assert count_distinct(rows) == 2
    assert count_distinct(rows + 1e-3 * torch.arange(4).unsqueeze(1)) == 4


def clustering(points: torch.Tensor, assignment: list[int]) -> Clustering:
    return Clustering(
        torch.zeros(max(assignment) + 1, points.shape[1]), torch.tensor(assignment), (0.0,), 0
    )


def test_prototypes_are_the_unit_means_of_their_members() -> None:
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0], [0.28, 0.96]])
    found, own = describe_clusters(points, clustering(points, [0, 0, 1, 1, 1]), temperature=0.2)
    mean = torch.tensor([0.8, 0.4])
    assert found.centroids[0].tolist() == pytest.approx((mean / mean.norm()).tolist(), abs=1e-6)
    assert found.sizes.tolist() == [2, 3]
    expected = ((points[0] - mean).norm() + (points[1] - mean).norm()) / 2
    # to the mean before normalisation
    assert found.radius[0].item() == pytest.approx(expected.item(), abs=1e-6)
    assert own.tolist() == [0, 0, 1, 1, 1]


def test_prototypes_that_nobody_was_assigned_to_are_left_out() -> None:
    points = torch.eye(6)
    found, own = describe_clusters(points, clustering(points, [5, 5, 2, 2, 9, 9]), temperature=0.2)
    assert len(found.sizes) == 3
    # counted among those in use, in the order of their numbers
    assert own.tolist() == [1, 1, 0, 0, 2, 2]


def test_parents_are_the_nearest_of_the_coarser_clustering() -> None:
    points = torch.tensor(
        [[1.0, 0.0], [0.9, 0.1], [0.9, -0.1], [0.0, 1.0], [0.1, 0.9], [-0.1, 0.9]]
    )
    coarse, _ = describe_clusters(points, clustering(points, [0, 0, 0, 1, 1, 1]), 0.2)
    fine, _ = describe_clusters(points, clustering(points, [3, 3, 2, 1, 0, 0]), 0.2, coarser=coarse)
    assert coarse.parents is None
    assert fine.parents is not None
    assert fine.parents.tolist() == [1, 1, 0, 0]
