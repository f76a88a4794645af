"""Lloyd's iterations: every point to its nearest centroid, every centroid to the mean of its
points, and again.

N points of width D, K clusters. The objective, the mean squared distance of a point to its
centroid, never rises.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.collective import Collective, gather
from pauc_hub.clustering.kmeans.nearest import (
    best_scores,
    cluster_sizes,
    cluster_sums,
    squared_distances,
)

# of the way to the farthest member: in 128 dimensions about a third of the members come along
STEP = 1 / 16


@dataclass(frozen=True)
class Settings:
    """How to iterate; see `kmeans`."""

    iterations: int
    tolerance: float
    spherical: bool
    bf16: bool
    heed: Callable[[], None]
    seen: Callable[[float, Tensor], None]


@dataclass(frozen=True)
class Descent:
    """Where the iterations ended; the attributes are those of `Clustering`."""

    centroids: Tensor
    assignment: Tensor
    objectives: tuple[float, ...]
    empty_splits: int


def lloyd(
    points: Tensor, norms: Tensor, start: Tensor, settings: Settings, group: Collective
) -> Descent:
    """Iterate from the centroids `start` (K, D) until they rest or the iterations are used up.

    Args:
        points: (N, D), this process's rows.
        norms: (N,) |x|^2.
    """
    centroids, objectives, splits = start, list[float](), 0
    rests = False
    while True:
        settings.heed()
        last = rests or len(objectives) == settings.iterations
        assignment, scores = best_scores(points, centroids, bf16=settings.bf16 and not last)
        gaps = squared_distances(norms, scores)
        objectives.append(_mean(gaps, group))
        settings.seen(objectives[-1], centroids)
        if last:
            return Descent(centroids, assignment, tuple(objectives), splits)
        moved, sizes = _updated(points, assignment, centroids, settings.spherical, group)
        empty = (sizes == 0).nonzero().squeeze(1)
        if len(empty) > 0:
            halves = _split(moved, sizes, len(empty), points, assignment, gaps, group)
            moved[empty[: len(halves)]] = on_sphere(halves) if settings.spherical else halves
            splits += len(halves)
        movement = (moved - centroids).square().sum(dim=1).mean().item()
        rests = movement <= settings.tolerance * objectives[-1]
        centroids = moved


def on_sphere(vectors: Tensor) -> Tensor:
    """At unit length; a vector without direction becomes the first axis."""
    lengths = vectors.double().norm(dim=1, keepdim=True)
    axis = torch.eye(1, vectors.shape[1], dtype=torch.float64, device=vectors.device)
    return torch.where(lengths > 0, vectors / lengths, axis).to(vectors.dtype)


def _mean(gaps: Tensor, group: Collective) -> float:
    total = gaps.sum(dtype=torch.float64)
    total, count = group.sum(torch.stack([total, torch.full_like(total, len(gaps))])).tolist()
    return float(total / count)


def _updated(
    points: Tensor, assignment: Tensor, centroids: Tensor, spherical: bool, group: Collective
) -> tuple[Tensor, Tensor]:
    """(K, D) means of the members, of unit length where spherical, and (K,) sizes. What has no mean
    stays.
    """
    sizes = group.sum(cluster_sizes(assignment, len(centroids)))
    sums = group.sum(cluster_sums(points, assignment, len(centroids)))
    lengths = sums.norm(dim=1) if spherical else sizes
    means = (sums / lengths.unsqueeze(1)).to(points.dtype)
    return torch.where((lengths > 0).unsqueeze(1), means, centroids), sizes


def _split(
    centroids: Tensor,
    sizes: Tensor,
    count: int,
    points: Tensor,
    assignment: Tensor,
    gaps: Tensor,
    group: Collective,
) -> Tensor:
    """(at most `count`, D) new centroids, each next to one of those whose members lie farthest away
    in sum.

    They lie on the way to the farthest member. The old ones stay, so the objective cannot rise.
    """
    inertia = group.sum(cluster_sums(gaps, assignment, len(centroids))) * (sizes > 1)
    order = inertia.argsort(descending=True, stable=True)
    donors = order[: min(count, int((inertia > 0).sum()))]
    members = _farthest(donors, points, assignment, gaps, len(centroids), group)
    return centroids[donors] + STEP * (members - centroids[donors])


def _farthest(
    clusters: Tensor, points: Tensor, assignment: Tensor, gaps: Tensor, k: int, group: Collective
) -> Tensor:
    """(len(clusters), D): of each cluster the member with the largest gap, the first of equals."""
    place = torch.full((k,), -1, device=points.device)
    place[clusters] = torch.arange(len(clusters), device=points.device)
    rows = (place[assignment] >= 0).nonzero().squeeze(1)
    where, far = place[assignment[rows]], gaps[rows]
    farthest = gaps.new_full((len(clusters),), -1.0).scatter_reduce(0, where, far, "amax")
    best = far == farthest[where]
    none = len(points)
    first = torch.full((len(clusters),), none, device=points.device).scatter_reduce(
        0, where[best], rows[best], "amin"
    )
    mine = (gather(farthest, group).argmax(dim=0) == group.rank) & (first < none)
    members = points.new_zeros(len(clusters), points.shape[1])
    members[mine] = points[first[mine]]
    return group.sum(members)
