"""Prototypes from clusters: unit centroids, how concentrated each is, how they nest (method.md §3).

N points, K clusters, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import ALONE, Clustering, Collective, cluster_means, cluster_sums
from pauc_hub.errors import TrainingFailed

ROUNDING = 1e-6  # of unit rows in float32: below it distances are noise
SMOOTHING = 10.0  # alpha of PCL: keeps small clusters from looking concentrated


@dataclass(frozen=True, eq=False)
class Prototypes:
    """One clustering of the training images: K prototypes of width D in projection space."""

    centroids: Tensor  # (K, D), rows of unit norm (to 1e-3 where they were stored in half precision)
    concentrations: Tensor  # (K,) > 0
    sizes: Tensor  # (K,) int64, members
    radius: Tensor  # (K,) >= 0, mean distance of the members to the unnormalised centroid
    parents: Tensor | None = None  # (K,) int64, index into the next coarser clustering; None for the coarsest

    def __post_init__(self) -> None:
        rows = {"concentrations": self.concentrations, "sizes": self.sizes, "radius": self.radius}
        if self.parents is not None:
            rows["parents"] = self.parents
        if wrong := [name for name, values in rows.items() if values.shape != self.centroids.shape[:1]]:
            raise ValueError(f"{', '.join(wrong)} must have one entry for each of {len(self.centroids)} prototypes")


def concentration(distance_sums: Tensor, sizes: Tensor, temperature: float) -> Tensor:
    """How loosely the members of each prototype lie about it; scaled so that the mean is the temperature.

    Args:
        distance_sums: (K,) sum of the members' distances (not squared) to the centroid before normalisation.
        sizes: (K,) number of members.
        temperature: mean of the result.

    Returns:
        (K,) > 0; a looser cluster has a larger one. A prototype with at most one member gets the largest of the others;
        all are clipped to their 10th and 90th percentile.

    Raises:
        TrainingFailed: every distance is 0 but for rounding: the features, of unit norm, have collapsed.

    Source: Li et al. 2021, section 3.3; method.md §3.
    """
    phi = distance_sums / (sizes * torch.log(sizes + SMOOTHING)).clamp_min(1e-12)
    phi = torch.where(sizes > 1, phi, phi[sizes > 1].max() if bool((sizes > 1).any()) else torch.zeros_like(phi))
    phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
    if phi.mean().item() <= ROUNDING:
        raise TrainingFailed(
            "all members of each cluster coincide: the features have collapsed. "
            "Try a lower learning rate (--lr), a longer warm-up or fewer clusters (--clusters)."
        )
    return temperature * phi / phi.mean()


def describe_clusters(
    points: Tensor,
    clustering: Clustering,
    temperature: float,
    coarser: Prototypes | None = None,
    group: Collective = ALONE,
) -> tuple[Prototypes, Tensor]:
    """Prototypes of a clustering, without those that no point was assigned to (method.md §2, correction 2).

    Args:
        points: (N, D) what was clustered.
        coarser: prototypes of the next coarser clustering, to find each one's parent in.
        group: the processes that share the points, of which these are one's own; the prototypes are those of all.

    Returns:
        The prototypes, and the (N,) assignment counted among them.
    """
    means, members = cluster_means(points, clustering.assignment, len(clustering.centroids), group)
    used = members > 0
    centroids, sizes, assignment = means[used], members[used], (used.cumsum(dim=0) - 1)[clustering.assignment]
    distances = (points - centroids[assignment]).norm(dim=1)
    distance_sums = group.sum(cluster_sums(distances, assignment, len(sizes))).to(points.dtype)
    unit = F.normalize(centroids, dim=1)
    prototypes = Prototypes(
        centroids=unit,
        concentrations=concentration(distance_sums, sizes, temperature),
        sizes=sizes,
        radius=distance_sums / sizes,
        parents=None if coarser is None else (unit @ coarser.centroids.T).argmax(dim=1),
    )
    return prototypes, assignment
