"""Nearest centroids and sums over clusters, against naive float64, whatever the chunks, the threads
and the device.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import nearest
from pauc_hub.clustering.kmeans.nearest import (
    assign_nearest,
    best_scores,
    cluster_means,
    cluster_sums,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_assignment(points: Tensor, centroids: Tensor) -> tuple[list[int], list[float]]:
    x, c = points.double().numpy(), centroids.double().numpy()
    distances = np.array([[((row - centre) ** 2).sum() for centre in c] for row in x])
    return distances.argmin(1).tolist(), distances.min(1).tolist()


@pytest.fixture(params=["numpy", "torch"])
def either_search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on few threads, and as on many."""
    monkeypatch.setattr(nearest, "FEW_THREADS", 1 << 30 if request.param == "numpy" else 1)


@pytest.mark.usefixtures("either_search")
@pytest.mark.parametrize("entries", [1, 35, 1 << 20])
@pytest.mark.parametrize("tile", [1, 3, 7, 1 << 10])
def test_assignment_equals_the_naive_one_whatever_the_chunks(
    entries: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "CHUNK_ENTRIES", {"cpu": entries})
    monkeypatch.setattr(nearest, "TILE_CENTROIDS", {"cpu": tile})
    points, centroids = normal(50, 8), normal(7, 8, seed=1)
    index, gaps = assign_nearest(points, centroids)
    expected_index, expected_gaps = naive_assignment(points, centroids)
    assert index.tolist() == expected_index
    assert gaps.tolist() == pytest.approx(expected_gaps, rel=1e-4)


@pytest.mark.usefixtures("either_search")
@pytest.mark.parametrize("tile", [1, 2, 1 << 10])
def test_of_equal_centroids_the_first_is_taken(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "TILE_CENTROIDS", {"cpu": tile})
    centroids = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    points = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert assign_nearest(points, centroids)[0].tolist() == [1, 1, 2]


def test_distances_far_from_zero_are_not_lost_in_rounding() -> None:
    """|x|^2 is 1e10 here, and its rounding in float32 would be 1000 times the distances."""
    points, centroids = normal(40, 4) + 5e4, normal(5, 4, seed=1) + 5e4
    index, gaps = assign_nearest(points, centroids)
    expected_index, expected_gaps = naive_assignment(points, centroids)
    assert index.tolist() == expected_index
    assert gaps.tolist() == pytest.approx(expected_gaps, rel=1e-3)


def test_distances_of_points_on_their_centroid_are_not_negative() -> None:
    points = normal(500, 64)
    index, gaps = assign_nearest(points, points)
    assert index.tolist() == list(range(500))
    assert gaps.min().item() == 0  # about half of them, where rounding falls below


def test_no_points_are_assigned_to_nothing() -> None:
    index, gaps = assign_nearest(torch.zeros(0, 3), torch.ones(2, 3))
    assert (index.shape, index.dtype, gaps.shape) == ((0,), torch.int64, (0,))


def test_cluster_means_by_hand() -> None:
    points = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    means, sizes = cluster_means(points, torch.tensor([2, 2, 0]), 3)
    assert means.tolist() == [[5.0, 5.0], [0.0, 0.0], [2.0, 1.0]]
    assert sizes.tolist() == [1, 0, 2]


def test_numbers_are_summed_as_rows_are() -> None:
    sums = cluster_sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]), 3)
    assert sums.tolist() == [2.0, 5.0, 0.0]


@pytest.mark.parametrize("add", ["_add_in_order", "_add_sorted"])
@pytest.mark.parametrize("rows", [7, 1 << 20])
def test_either_way_of_summing_is_that_of_float64(
    add: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the way of GPUs, here on the CPU too
    monkeypatch.setattr(nearest, "_add_in_order", getattr(nearest, add))
    monkeypatch.setattr(nearest, "SUM_ROWS", {"cpu": rows})
    points = 1e3 * normal(200, 5)
    assignment = torch.randint(9, (200,), generator=torch.Generator().manual_seed(1))
    assignment[assignment == 4] = 3  # one cluster is empty
    expected = np.zeros((9, 5))
    np.add.at(expected, assignment.numpy(), points.double().numpy())
    assert np.allclose(cluster_sums(points, assignment, 9).numpy(), expected, rtol=1e-12, atol=1e-9)


def test_sums_do_not_depend_on_threads_or_order() -> None:
    points = normal(30_000, 16)
    assignment = torch.randint(50, (30_000,), generator=torch.Generator().manual_seed(1))
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(2))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(cluster_means(points, assignment, 50)[0])
    finally:
        torch.set_num_threads(threads)
    found.append(cluster_means(points[order], assignment[order], 50)[0])
    assert all(torch.equal(found[0], other) for other in found)


def rounding_error(points: Tensor, centroids: Tensor) -> tuple[float, float]:
    """What bf16 does: the share of points that get another centroid, and by what share their mean
    distance grows.
    """
    exact, gaps = assign_nearest(points, centroids)
    rounded, _ = best_scores(points, centroids, bf16=True)
    worse = (points - centroids[rounded]).square().sum(dim=1)
    return (exact != rounded).double().mean().item(), (
        worse.double().mean() / gaps.double().mean()
    ).item() - 1


def test_bf16_moves_few_points_and_hardly_the_objective() -> None:
    """A CPU rounds the factors alike and sums in float32, so this is the error of a GPU."""
    points = F.normalize(normal(5000, 128) + 2 * normal(40, 128, seed=1).repeat(125, 1), dim=1)
    moved, growth = rounding_error(points, points[:400])
    assert 0 < moved < 0.01
    assert 0 <= growth < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_and_sums_what_the_cpu_does() -> None:
    points = F.normalize(normal(5000, 128) + 2 * normal(40, 128, seed=1).repeat(125, 1), dim=1)
    index, gaps = assign_nearest(points, points[:400])
    there, gaps_there = assign_nearest(points.cuda(), points[:400].cuda())
    assert (index != there.cpu()).double().mean().item() < 1e-3
    assert torch.allclose(gaps, gaps_there.cpu(), atol=1e-5)
    sums, again = (cluster_sums(points.cuda(), index.cuda(), 400) for _ in range(2))
    assert torch.equal(sums, again)
    assert torch.allclose(sums.cpu(), cluster_sums(points, index, 400), atol=1e-10)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bf16_on_a_gpu_errs_as_little_as_on_a_cpu() -> None:
    points = F.normalize(
        normal(50_000, 128) + 2 * normal(400, 128, seed=1).repeat(125, 1), dim=1
    ).cuda()
    moved, growth = rounding_error(points, points[:4000])
    assert 0 < moved < 0.01
    assert growth < 1e-4
