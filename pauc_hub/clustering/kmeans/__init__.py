"""k-means: one function, two backends. N points of width D, K clusters.

Our own torch code, on one processor or on many that share the points, or faiss where it is
installed. Either way the seeds are those of k-means++, nothing depends on chance but `seed`, and
the N x K distances are never held at once.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.collective import ALONE, Collective
from pauc_hub.clustering.kmeans.lloyd import Descent, Settings, lloyd, on_sphere
from pauc_hub.clustering.kmeans.nearest import (
    assign_nearest,
    cluster_means,
    cluster_sums,
    count_distinct,
    count_spoilt,
    squared_gaps,
    squared_norms,
)
from pauc_hub.clustering.kmeans.seeding import plus_plus
from pauc_hub.clustering.kmeans.with_faiss import descend_with_faiss
from pauc_hub.errors import UsageError

__all__ = [
    "ALONE",
    "BACKENDS",
    "Clustering",
    "Collective",
    "assign_nearest",
    "cluster_means",
    "cluster_sums",
    "count_distinct",
    "kmeans",
    "resolve_backend",
    "squared_gaps",
]

BACKENDS = ("auto", "torch", "faiss")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Clustering:
    """Where the points fell.

    Attributes:
        centroids: (K, D) float32: the means that the last iteration found; of unit length where
            spherical.
        assignment: (N,) int64 in [0, K), the nearest centroid of each of this process's points.
        objectives: mean squared distance of a point to its nearest centroid, at the start and after
            each iteration.
        empty_splits: how often a cluster had lost all members and was given a part of another.
    """

    centroids: Tensor
    assignment: Tensor
    objectives: tuple[float, ...]
    empty_splits: int

    @property
    def objective(self) -> float:
        return self.objectives[-1]

    @property
    def iterations(self) -> int:
        return len(self.objectives) - 1


@torch.no_grad()
def kmeans(
    points: Tensor,
    k: int,
    *,
    iterations: int = 20,
    restarts: int = 1,
    seed: int = 0,
    backend: str = "auto",
    spherical: bool = False,
    start: Tensor | None = None,
    tolerance: float = 0.0,
    bf16: bool = False,
    heed: Callable[[], None] = lambda: None,
    seen: Callable[[float, Tensor], None] = lambda _objective, _centroids: None,
    group: Collective = ALONE,
) -> Clustering:
    """Cluster points by squared Euclidean distance; the best of `restarts` runs.

    Args:
        points: (N, D) float32, on any device, in any order, N >= k; with a `group`, this process's
            rows of them.
        k: number of clusters.
        iterations: Lloyd iterations a run, at most.
        backend: `faiss`, `torch`, or `auto`: see `resolve_backend`.
        spherical: keep the centroids at unit length. Made for points of unit length; longer ones
            would weigh more.
        start: (K, D) centroids to begin with instead of seeds; there is one run then.
        tolerance: stop once the centroids' mean squared movement is at most this share of the
            objective. 0: once they rest.
        bf16: multiply in bfloat16 but for the last assignment; torch only, made for GPUs. About one
            point in 500 is then given to a centroid that is not quite the nearest.
        heed: called before each iteration, on all processes equally often; what it raises ends the
            clustering. torch only: faiss calls nobody.
        seen: called after each assignment with the objective and the (K, D) centroids that it was
            to; torch only. From spherical ones, given as `start`, another call goes on just as this
            one does.
        group: the processes that share the points; torch only. The centroids are the same on each.

    Raises:
        ValueError: fewer points than clusters, points that are not finite, or a start of another
            shape.
        UsageError: faiss was asked for and is not installed, or was asked to share.
    """
    descend = _descend_by(backend, points.device, group)
    count = _check(points, k, start, group)
    origin = points.new_zeros(points.shape[1]) if spherical else _mean(points, count, group)
    # far from 0, distances would drown in the rounding of |x|^2; unit rows are not, and need no
    # second copy
    points = points.float() if spherical else points.float() - origin
    norms = squared_norms(points)
    settings = Settings(iterations, tolerance, spherical, bf16, heed, seen)

    def run(attempt: int) -> Descent:
        generator = torch.Generator().manual_seed(seed + attempt)
        seeds = (
            plus_plus(points, norms, k, generator, group)
            if start is None
            else start.to(points) - origin
        )
        return descend(points, norms, on_sphere(seeds) if spherical else seeds, settings, group)

    runs = [run(attempt) for attempt in range(restarts if start is None else 1)]
    best = min(runs, key=lambda found: found.objectives[-1])
    return Clustering(best.centroids + origin, best.assignment, best.objectives, best.empty_splits)


def resolve_backend(backend: str, device: torch.device = CPU) -> str:
    """The backend that `backend` means for points on a device: `torch` or `faiss`.

    `auto` is faiss on a CPU, where it is installed. Points on a GPU stay there: faiss-cpu would
    fetch them.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown k-means backend '{backend}'. Use one of {', '.join(BACKENDS)}.")
    installed = importlib.util.find_spec("faiss") is not None
    if backend == "faiss" and not installed:
        raise UsageError(
            "k-means backend 'faiss' is not installed. `pip install 'pauc-hub[faiss-cpu]'`, or "
            "use `torch`."
        )
    if backend == "auto":
        return "faiss" if installed and device.type == "cpu" else "torch"
    return backend


def _descend_by(
    backend: str, device: torch.device, group: Collective
) -> Callable[[Tensor, Tensor, Tensor, Settings, Collective], Descent]:
    if backend == "faiss" and group.size > 1:
        raise UsageError(
            f"k-means backend 'faiss' runs in one process, not in {group.size}. Use `torch`."
        )
    return (
        descend_with_faiss
        if resolve_backend(backend, device) == "faiss" and group.size == 1
        else lloyd
    )


def _check(points: Tensor, k: int, start: Tensor | None, group: Collective) -> int:
    """The number of points in all processes, which all raise alike."""
    spoilt = count_spoilt(points)
    count, spoilt_in_all = group.sum(
        torch.stack([torch.full_like(spoilt, len(points)), spoilt])
    ).tolist()
    if not 1 <= k <= count:
        raise ValueError(f"k = {k} must lie between 1 and the number of points, {count}")
    if spoilt_in_all:
        raise ValueError("points must be finite")
    if start is not None and start.shape != (k, points.shape[1]):
        raise ValueError(f"start must be of shape {(k, points.shape[1])}, not {tuple(start.shape)}")
    return int(count)


def _mean(points: Tensor, count: int, group: Collective) -> Tensor:
    return (group.sum(points.sum(dim=0, dtype=torch.float64)) / count).float()
