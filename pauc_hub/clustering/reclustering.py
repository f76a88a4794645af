"""The same points clustered again from bootstraps: which assignments hold, whatever the seed. N points, D width."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.hierarchy import ward
from pauc_hub.clustering.kmeans import assign, cluster_means, kmeans

ITERATIONS = 20
# of the objective: a k-means whose centroids move less is done
TOLERANCE = 1e-4
# points of a bootstrap for each cluster; twenty times k-means on all of a million points would take hours
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
    """Cluster a bootstrap of the points, match its clusters with the reference's, and assign other points.

    Args:
        points: (N, D) unit rows.
        reference: (N,) int64, each point's cluster of the finest granularity.
        granularities: how many clusters, the coarsest first.
        evaluated: (E, D) unit rows.
        heed: called before each iteration; what it raises ends it.
    """
    k = granularities[-1]
    drawn = _bootstrap(len(points), points.shape[1], k, seed)
    sample = points[drawn]
    found = kmeans(
        sample,
        k,
        iterations=ITERATIONS,
        tolerance=TOLERANCE,
        seed=seed,
        spherical=True,
        backend="torch",
        heed=heed,
    )
    means, sizes = cluster_means(sample, found.assignment, k)
    used = sizes > 0
    centroids = F.normalize(found.centroids[used], dim=1)
    own = (used.cumsum(dim=0) - 1)[found.assignment]
    partner = match_one_to_one(reference[drawn], own)
    nearest, _ = assign(evaluated, centroids)
    tree = ward(means[used], sizes[used])
    cuts = [tree.cut(min(count, len(centroids)))[nearest] for count in granularities]
    return Reclustering(partner[nearest], torch.stack(cuts, dim=1))


def match_one_to_one(reference: Tensor, other: Tensor) -> Tensor:
    """Pair the clusters of two labellings of the same points, those that share most points first.

    Args:
        reference, other: (N,) int64 from 0 on.

    Returns:
        (K',) int64: for each cluster of `other` its partner in `reference`, -1 where all that it shares points with are
        taken. No partner stands there twice.
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


def _bootstrap(rows: int, width: int, k: int, seed: int) -> Tensor:
    """Rows drawn with replacement."""
    affordable = LARGEST_BYTES // (4 * width)
    count = min(rows, max(FEWEST_POINTS * k, min(MOST_POINTS * k, affordable)))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(rows, (max(count, k),), generator=generator)
