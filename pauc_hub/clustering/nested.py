"""Prototypes that nest: a clustering, and Ward's hierarchy above it. N points, K prototypes, D
width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.hierarchy import ward
from pauc_hub.clustering.kmeans import cluster_means, cluster_sums, squared_gaps
from pauc_hub.clustering.prototype_set import PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes, concentration, has_spread
from pauc_hub.origin import Origin

# mean of the concentrations
MEAN_CONCENTRATION = 0.1


def nested_prototypes(
    points: Tensor,
    assignment: Tensor,
    centroids: Tensor,
    granularities: tuple[int, ...],
    origin: Origin,
) -> PrototypeSet:
    """Prototypes of a clustering without its empty clusters, and coarser ones above them by Ward's
    hierarchy.

    Args:
        points: (N, D) unit rows.
        assignment: (N,) int64.
        centroids: (K, D) unit rows that the points were assigned to.
        granularities: the coarsest first; those of K or more, once empty clusters are out, fall
            away.
    """
    means, sizes = cluster_means(points, assignment, len(centroids))
    used = sizes > 0
    own = among_used(assignment, len(centroids))
    means, sizes = means[used], sizes[used]
    tree = ward(means, sizes)
    coarse = [k for k in granularities[:-1] if k < len(means)]
    cuts = [tree.cut(k) for k in coarse] + [torch.arange(len(means))]
    levels = []
    for m, cut in enumerate(cuts):
        above = None if m == 0 else _parents(cut, cuts[m - 1])
        centre = F.normalize(centroids[used], dim=1) if m == len(coarse) else None
        levels.append(_level(points, own, cut, means, sizes, centre, above))
    return PrototypeSet(tuple(levels), origin, nested=True, names=unnamed(levels))


def _level(
    points: Tensor,
    own: Tensor,
    cut: Tensor,
    means: Tensor,
    sizes: Tensor,
    centroids: Tensor | None,
    parents: Tensor | None,
) -> Prototypes:
    """One granularity, from the finest clusters that `cut` puts together."""
    k = int(cut.max()) + 1
    members = torch.zeros(k, dtype=sizes.dtype).index_add_(0, cut, sizes)
    summed = torch.zeros(k, means.shape[1], dtype=torch.float64)
    summed.index_add_(0, cut, means.double() * sizes.double().unsqueeze(1))
    mean = (summed / members.double().unsqueeze(1)).float()
    assigned = cut[own]
    distances = cluster_sums(squared_gaps(points, mean, assigned).sqrt_(), assigned, k).float()
    spread = bool(has_spread(distances, members).any())
    return Prototypes(
        centroids=F.normalize(mean, dim=1) if centroids is None else centroids,
        concentrations=concentration(distances, members, MEAN_CONCENTRATION)
        if spread
        else torch.full((k,), MEAN_CONCENTRATION),
        sizes=members,
        radius=distances / members,
        parents=parents,
    )


def _parents(fine: Tensor, coarse: Tensor) -> Tensor:
    """For each cluster of a cut the one of a coarser cut that it lies in."""
    parents = torch.zeros(int(fine.max()) + 1, dtype=torch.int64)
    parents[fine] = coarse
    return parents


def among_used(assignment: Tensor, k: int) -> Tensor:
    """The assignment counted among the clusters that have members."""
    used = torch.bincount(assignment, minlength=k) > 0
    return (used.cumsum(dim=0) - 1)[assignment]
