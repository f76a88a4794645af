"""k-means against a naive reference, on clusters that can be known, and in its corners."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import Tensor

from pauc_hub.clustering.kmeans import BACKENDS, cluster_means, kmeans, resolve_backend
from pauc_hub.errors import UsageError

BOTH = ["torch", "faiss"]


def blobs(
    clusters: int, members: int, width: int, seed: int, spread: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Points about well-separated centres, sorted by cluster, and which cluster each is of."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(width)[:clusters] * 5
    labels = torch.arange(clusters).repeat_interleave(members)
    return centres[labels] + spread * torch.randn(
        clusters * members, width, generator=generator
    ), labels


def naive_assignment(points: Tensor, centroids: Tensor) -> tuple[list[int], list[float]]:
    x, c = points.double().numpy(), centroids.double().numpy()
    distances = np.array([[((row - centre) ** 2).sum() for centre in c] for row in x])
    return distances.argmin(1).tolist(), distances.min(1).tolist()


@pytest.mark.parametrize("backend", BOTH)
def test_separate_blobs_are_found(backend: str) -> None:
    points, labels = blobs(clusters=6, members=30, width=8, seed=0)
    found = kmeans(points, 6, restarts=5, backend=backend)
    pairs = set(zip(found.assignment.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 6  # each cluster is one blob, each blob one cluster
    assert found.objective == pytest.approx(8 * 0.05**2, rel=0.1)


@pytest.mark.parametrize("backend", BOTH)
def test_the_result_is_at_rest_where_lloyd_converged(backend: str) -> None:
    points, _ = blobs(clusters=4, members=25, width=6, seed=1)
    found = kmeans(points, 4, restarts=5, backend=backend)
    assert torch.allclose(cluster_means(points, found.assignment, 4)[0], found.centroids, atol=1e-5)
    assert found.assignment.tolist() == naive_assignment(points, found.centroids)[0]


def test_torch_is_as_good_as_faiss() -> None:
    points = torch.randn(3000, 16, generator=torch.Generator().manual_seed(4))
    ours, theirs = (kmeans(points, 30, restarts=3, backend=backend).objective for backend in BOTH)
    assert ours == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("backend", BOTH)
def test_the_same_seed_gives_the_same_clusters_and_another_one_others(backend: str) -> None:
    points = torch.randn(300, 8, generator=torch.Generator().manual_seed(5))
    first, again, other = (kmeans(points, 10, seed=seed, backend=backend) for seed in (7, 7, 8))
    assert torch.equal(first.centroids, again.centroids)
    assert not torch.equal(first.centroids, other.centroids)


def test_the_global_generator_is_left_alone() -> None:
    points = torch.randn(50, 4)
    before = torch.random.get_rng_state()
    kmeans(points, 3, backend="torch")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_more_restarts_never_give_a_worse_result() -> None:
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(6))
    single = [kmeans(points, 8, seed=seed, backend="torch").objective for seed in range(5)]
    assert kmeans(points, 8, restarts=5, seed=0, backend="torch").objective == min(single)
    assert min(single) < max(single)


def test_an_empty_cluster_starts_again_where_points_are_served_worst() -> None:
    # many seeds coincide
    points = torch.cat([torch.zeros(20, 2), torch.ones(20, 2), torch.full((1, 2), 50.0)])
    for seed in range(10):
        found = kmeans(points, 3, seed=seed, backend="torch")
        assert sorted(torch.bincount(found.assignment, minlength=3).tolist()) == [1, 20, 20]


def test_as_many_clusters_as_points_leaves_no_distance() -> None:
    points = torch.randn(12, 5, generator=torch.Generator().manual_seed(8))
    assert kmeans(points, 12, backend="torch").objective == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("k", "points"),
    [(0, torch.zeros(3, 2)), (4, torch.zeros(3, 2)), (1, torch.tensor([[float("nan")]]))],
)
def test_wrong_calls_are_refused(k: int, points: Tensor) -> None:
    with pytest.raises(ValueError, match="must"):
        kmeans(points, k)


def test_auto_is_faiss_where_it_is_installed() -> None:
    assert resolve_backend("auto") == "faiss"
    assert resolve_backend("torch") == "torch"


def test_auto_leaves_points_on_a_gpu_where_they_are() -> None:
    gpu = torch.device("cuda", 1)
    assert [resolve_backend(name, gpu) for name in BACKENDS] == ["torch", "torch", "faiss"]


def test_auto_is_asked_about_the_device_of_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def noted(_: str, device: torch.device) -> str:
        devices.append(device.type)
        return "torch"

    monkeypatch.setattr("pauc_hub.clustering.kmeans.resolve_backend", noted)
    kmeans(torch.randn(6, 2), 2)
    assert devices == ["cpu"]
    with pytest.raises(NotImplementedError):  # nothing can be computed there
        kmeans(torch.randn(6, 2, device="meta"), 2)
    assert devices == ["cpu", "meta"]


def test_without_faiss_auto_is_torch_and_asking_for_faiss_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert resolve_backend("auto") == "torch"
    with pytest.raises(UsageError, match=r"not installed.*pauc-hub\[faiss-cpu\]"):
        resolve_backend("faiss")


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(UsageError, match="unknown k-means backend 'cuml'"):
        kmeans(torch.zeros(3, 2), 1, backend="cuml")
