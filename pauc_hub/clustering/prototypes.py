"""Prototypes from clusters: unit centroids, how concentrated each is, how they nest (method.md §3).

N points, K clusters, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import (
    ALONE,
    Clustering,
    Collective,
    assign_nearest,
    cluster_means,
    cluster_sums,
    count_distinct,
    squared_gaps,
)
from pauc_hub.errors import TooFewDistinct

# of unit rows in float32: below it distances are noise
ROUNDING = 1e-6
# alpha of PCL: keeps small clusters from looking concentrated
SMOOTHING = 10.0


@dataclass(frozen=True, eq=False)
class Prototypes:
    """One clustering of the training images: K prototypes of width D in projection space."""

    # (K, D), rows of unit norm (to 1e-3 where they were stored in half precision)
    centroids: Tensor
    concentrations: Tensor  # (K,) > 0
    sizes: Tensor  # (K,) int64, members
    radius: Tensor  # (K,) >= 0, mean distance of the members to the unnormalised centroid
    # (K,) int64, index into the next coarser clustering; None for the coarsest
    parents: Tensor | None = None

    def __post_init__(self) -> None:
        rows = {"concentrations": self.concentrations, "sizes": self.sizes, "radius": self.radius}
        if self.parents is not None:
            rows["parents"] = self.parents
        if wrong := [
            name for name, values in rows.items() if values.shape != self.centroids.shape[:1]
        ]:
            raise ValueError(
                f"{', '.join(wrong)} must have one entry for each of {len(self.centroids)} "
                "prototypes"
            )


def concentration(distance_sums: Tensor, sizes: Tensor, temperature: float) -> Tensor:
    """How loosely the members of each prototype lie about it; scaled so that the mean is the
    temperature.

    Args:
        distance_sums: (K,) sum of the members' distances (not squared) to the centroid before
            normalisation; the mean distance of at least one prototype is above ROUNDING.
        sizes: (K,) number of members.
        temperature: mean of the result.

    Returns:
        (K,) > 0; a looser cluster has a larger one. A prototype without two different members gets
        the largest of the others; all are clipped to at least the 10th percentile and half the
        median, at most the 90th percentile.

    Source: Li et al. 2021, section 3.3; method.md §3 for the floor.
    """
    phi = distance_sums / (sizes * torch.log(sizes + SMOOTHING)).clamp_min(1e-12)
    spread = has_spread(distance_sums, sizes)
    phi = torch.where(spread, phi, phi.where(spread, -torch.inf).max())
    tenth, median, ninetieth = phi.quantile(phi.new_tensor([0.1, 0.5, 0.9])).unbind()
    phi = phi.clamp(torch.maximum(tenth, median / 2), ninetieth)
    return temperature * phi / phi.mean()


def has_spread(distance_sums: Tensor, sizes: Tensor) -> Tensor:
    """(K,) bool: which clusters hold different points; copies of one point have no spread but for
    rounding.
    """
    return (sizes > 1) & (distance_sums > ROUNDING * sizes)


def describe_clusters(
    points: Tensor,
    clustering: Clustering,
    temperature: float,
    coarser: Prototypes | None = None,
    group: Collective = ALONE,
) -> tuple[Prototypes, Tensor]:
    """Prototypes of a clustering, without those that no point was assigned to (method.md §2,
    correction 2).

    Args:
        points: (N, D) what was clustered, unit rows.
        coarser: prototypes of the next coarser clustering, to find each one's parent in.
        group: the processes that share the points, of which these are one's own; the prototypes are
            those of all.

    Returns:
        The prototypes, and the (N,) assignment counted among them.

    Raises:
        TooFewDistinct: the members of each cluster coincide, so that no concentration means
            anything.
    """
    means, members = cluster_means(points, clustering.assignment, len(clustering.centroids), group)
    used = members > 0
    centroids, sizes = means[used], members[used]
    assignment = (used.cumsum(dim=0) - 1)[clustering.assignment]
    distances = squared_gaps(points, centroids, assignment).sqrt_()
    distance_sums = group.sum(cluster_sums(distances, assignment, len(sizes))).to(points.dtype)
    if not bool(has_spread(distance_sums, sizes).any()):
        raise TooFewDistinct(count_distinct(centroids), int(sizes.sum()), len(clustering.centroids))
    unit = F.normalize(centroids, dim=1)
    prototypes = Prototypes(
        centroids=unit,
        concentrations=concentration(distance_sums, sizes, temperature),
        sizes=sizes,
        radius=distance_sums / sizes,
        parents=None if coarser is None else assign_nearest(unit, coarser.centroids)[0],
    )
    return prototypes, assignment
