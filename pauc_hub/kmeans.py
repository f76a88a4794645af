"""k-means: one function, two backends. N points of width D, K clusters.

Lloyd's iterations in chunks, so that the N x K distances are never held at once; faiss does it where installed.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pauc_hub.errors import UsageError

BACKENDS = ("auto", "torch", "faiss")
CHUNK_ENTRIES = 1 << 23  # distances held at once: 32 MiB of float32


@dataclass(frozen=True)
class Clustering:
    """Where the points fell.

    Attributes:
        centroids: (K, D) float32, plain means of their members.
        assignment: (N,) int64 in [0, K), the nearest centroid of each point.
        objective: mean squared distance of a point to its centroid.
    """

    centroids: Tensor
    assignment: Tensor
    objective: float


def kmeans(
    points: Tensor, k: int, *, iterations: int = 20, restarts: int = 1, seed: int = 0, backend: str = "auto"
) -> Clustering:
    """Cluster points by squared Euclidean distance; the best of `restarts` runs.

    Args:
        points: (N, D) float32, N >= k, in any order: seeds come from a permutation (method.md §3).
        k: number of clusters.
        iterations: Lloyd iterations a run.
        backend: `faiss`, `torch`, or `auto`: faiss where it is installed, else torch.

    Raises:
        ValueError: fewer points than clusters, or points that are not finite.
        UsageError: faiss was asked for and is not installed.
    """
    if not 1 <= k <= len(points):
        raise ValueError(f"k = {k} must lie between 1 and the number of points, {len(points)}")
    if not bool(torch.isfinite(points).all()):
        raise ValueError("points must be finite")
    run = _faiss if resolve_backend(backend) == "faiss" else _lloyd
    runs = [run(points, k, iterations, seed + restart) for restart in range(restarts)]
    return min(runs, key=lambda found: found.objective)


def resolve_backend(backend: str) -> str:
    """The backend that `backend` means on this machine: `torch` or `faiss`."""
    if backend not in BACKENDS:
        raise UsageError(f"unknown k-means backend '{backend}'. Use one of {', '.join(BACKENDS)}.")
    installed = importlib.util.find_spec("faiss") is not None
    if backend == "faiss" and not installed:
        raise UsageError(
            "k-means backend 'faiss' is not installed. `pip install 'pauc-hub[faiss-cpu]'`, or use `torch`."
        )
    return "faiss" if installed and backend != "torch" else "torch"


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point.

    Returns:
        (N,) int64 indices and (N,) squared distances, not below 0.
    """
    half_norms = centroids.square().sum(dim=1) / 2
    nearest, gaps = [], []
    for chunk in torch.split(points, max(1, CHUNK_ENTRIES // len(centroids))):
        # |x - c|^2 / 2 = |x|^2 / 2 - (x.c - |c|^2 / 2): one matrix product, and the largest score is the nearest
        score, index = torch.addmm(half_norms, chunk, centroids.T, beta=-1).max(dim=1)
        nearest.append(index)
        gaps.append((chunk.square().sum(dim=1) - 2 * score).clamp_min(0))
    return torch.cat(nearest), torch.cat(gaps)


def cluster_means(points: Tensor, assignment: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(K, D) means of the members and (K,) int64 sizes; the mean of an empty cluster is 0."""
    sizes = torch.bincount(assignment, minlength=k)
    sums = points.new_zeros(k, points.shape[1]).index_add_(0, assignment, points)
    return sums / sizes.clamp_min(1).unsqueeze(1), sizes


def _lloyd(points: Tensor, k: int, iterations: int, seed: int) -> Clustering:
    generator = torch.Generator().manual_seed(seed)
    centroids = points[torch.randperm(len(points), generator=generator)[:k].to(points.device)].clone()
    for _ in range(iterations):
        assignment, gaps = assign(points, centroids)
        centroids, sizes = cluster_means(points, assignment, k)
        empty = (sizes == 0).nonzero().squeeze(1)
        if len(empty):  # each empty cluster starts again at one of the points that are served worst
            centroids[empty] = points[gaps.topk(len(empty)).indices]
    assignment, gaps = assign(points, centroids)
    return Clustering(centroids, assignment, gaps.mean().item())


def _faiss(points: Tensor, k: int, iterations: int, seed: int) -> Clustering:
    import faiss  # an extra; imported where used

    rows = points.cpu().numpy()
    trainer: Any = faiss.Kmeans(
        rows.shape[1],
        k,
        niter=iterations,
        seed=seed,
        gpu=points.is_cuda and hasattr(faiss, "StandardGpuResources"),
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # by default faiss looks at 256 points a centroid only
    )
    trainer.train(rows)
    centroids = torch.from_numpy(trainer.centroids.copy()).to(points.device)
    assignment, gaps = assign(points, centroids)
    return Clustering(centroids, assignment, gaps.mean().item())
