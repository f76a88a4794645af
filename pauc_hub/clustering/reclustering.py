"""The same points clustered again from bootstraps: which assignments hold, whatever the seed. N
points, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.hierarchy import ward
from pauc_hub.clustering.kmeans import assign_nearest, cluster_means, kmeans

ITERATIONS = 20
# of the objective: a k-means whose centroids move less is done
TOLERANCE = 1e-4
# points of a bootstrap for each cluster; twenty times k-means on all of a million points would take
# hours
MOST_POINTS, FEWEST_POINTS = 100, 10
# of the points in a bootstrap, beyond FEWEST_POINTS
LARGEST_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Reclustering:
    """What one of them makes of E points that no clustering has seen."""

    matched: Tensor
    """(E,) int64: which of the reference's clusters each would belong to; -1 for none."""
    labels: Tensor
    """(E, M) int64: its own cluster at each of M granularities."""


def recluster(
    points: Tensor,
    reference: Tensor,
    granularities: tuple[int, ...],
    evaluated: Tensor,
    seed: int,
    heed: Callable[[], None] = lambda: None,
) -> Reclustering:
    """Cluster a bootstrap of the points, match its clusters with the reference's, and assign other
    points.

    Args:
        points: (N, D) unit rows.
        reference: (N,) int64, each point's cluster of the finest granularity.
        granularities: how many clusters, the coarsest first.
        evaluated: (E, D) unit rows.
        heed: called before each iteration; what it raises ends it.
    """
    again = _cluster_again(points, reference, granularities[-1], evaluated, seed, heed=heed)
    tree = ward(again.means, again.sizes)
    cuts = [tree.cut(min(count, len(again.means)))[again.nearest] for count in granularities]
    return Reclustering(again.matched, torch.stack(cuts, dim=1))


def matched_again(
    points: Tensor,
    reference: Tensor,
    k: int,
    evaluated: Tensor,
    seed: int,
    *,
    spherical: bool = True,
) -> Tensor:
    """Cluster a bootstrap of the points at one granularity, and say which of the reference's
    clusters others fall into.

    Args:
        points: (N, D) unit rows, on any device.
        reference: (N,) int64, each point's cluster.
        k: how many clusters.
        evaluated: (E, D) unit rows.
        spherical: whether centroids stay at unit length, see `kmeans`.

    Returns:
        (E,) int64: which of the reference's clusters each would belong to; -1 for none.
    """
    return _cluster_again(points, reference, k, evaluated, seed, spherical=spherical).matched


@dataclass(frozen=True, eq=False)
class _Again:
    """K' clusters of a bootstrap, of which none is empty."""

    means: Tensor
    """(K', D)"""
    sizes: Tensor
    """(K',) int64."""
    nearest: Tensor
    """(E,) int64 in [0, K')."""
    matched: Tensor
    """(E,) int64, clusters of the reference."""


def _cluster_again(
    points: Tensor,
    reference: Tensor,
    k: int,
    evaluated: Tensor,
    seed: int,
    *,
    spherical: bool = True,
    heed: Callable[[], None] = lambda: None,
) -> _Again:
    drawn = _bootstrap(len(points), points.shape[1], k, seed).to(points.device)
    sample = points[drawn]
    found = kmeans(
        sample,
        k,
        iterations=ITERATIONS,
        tolerance=TOLERANCE,
        seed=seed,
        spherical=spherical,
        backend="torch",
        heed=heed,
    )
    means, sizes = cluster_means(sample, found.assignment, k)
    used = sizes > 0
    own = (used.cumsum(dim=0) - 1)[found.assignment]
    partner = match_one_to_one(reference[drawn], own).to(points.device)
    nearest, _ = assign_nearest(evaluated, F.normalize(found.centroids[used], dim=1))
    return _Again(means[used], sizes[used], nearest, partner[nearest])


def match_one_to_one(reference: Tensor, other: Tensor) -> Tensor:
    """Pair the clusters of two labellings of the same points, those that share most points first.

    Args:
        reference, other: (N,) int64 from 0 on.

    Returns:
        (K',) int64: for each cluster of `other` its partner in `reference`, -1 where all that it
        shares points with are taken. No partner stands there twice.
    """
    count = int(other.max()) + 1
    joint, shared = torch.unique(reference * count + other, return_counts=True)
    partner = np.full(count, -1, np.int64)
    taken: set[int] = set()
    for pair in joint[shared.argsort(descending=True, stable=True)].tolist():
        mine, its = divmod(pair, count)
        if partner[its] < 0 and mine not in taken:
            partner[its] = mine
            taken.add(mine)
    return torch.from_numpy(partner)


def bootstrap_size(rows: int, width: int, k: int) -> int:
    """How many of so many rows a bootstrap draws."""
    affordable = LARGEST_BYTES // (4 * width)
    return max(k, min(rows, max(FEWEST_POINTS * k, min(MOST_POINTS * k, affordable))))


def _bootstrap(rows: int, width: int, k: int, seed: int) -> Tensor:
    """Rows drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(rows, (bootstrap_size(rows, width, k),), generator=generator)
