"""Which prototypes points belong to, how clearly, and how confidently. n points, K prototypes, D
width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.nearest import largest
from pauc_hub.clustering.prototype_set import PrototypeSet

# Similarities held at once, 2 MiB, which stay in a processor's cache for all that is asked of them;
# but not so few rows that the product with many prototypes is slow.
ENTRIES_TOGETHER = 1 << 19
FEWEST_ROWS = 256


@dataclass(frozen=True, eq=False)
class Assigned:
    """Where n points fall at one granularity."""

    prototype: Tensor
    """(n,) int64."""
    similarity: Tensor
    """(n,) cosine to that prototype."""
    margin: Tensor
    """(n,) by how much that is more than the cosine to the nearest other prototype, below 0 where
    an ancestor is not the nearest; NaN where there is no other.
    """
    confidence: Tensor | None
    """(n,) in [0, 1]; None where the prototypes were not calibrated."""


def assign_points(points: Tensor, prototypes: PrototypeSet) -> tuple[Assigned, ...]:
    """Assign points at every granularity: the nearest by cosine; where granularities nest, coarser
    ones by ancestry.

    Confidence is a softmax over similarities; that of a coarse prototype is the sum over its
    descendants'.

    Args:
        points: (n, D) unit rows.

    Returns:
        One entry for each granularity, the coarsest first.
    """
    together = max(FEWEST_ROWS, ENTRIES_TOGETHER // prototypes.granularities[-1])
    if len(points) > together:
        parts = [assign_points(part, prototypes) for part in torch.split(points, together)]
        return tuple(_joined(level) for level in zip(*parts, strict=True))
    if not prototypes.nested:
        return tuple(_nearest(points, prototypes, level) for level in range(len(prototypes.levels)))
    finest = len(prototypes.levels) - 1
    similarities = points @ prototypes.levels[finest].centroids.T
    shares = _shares(similarities, prototypes, finest)
    fine = _describe(similarities, largest(similarities)[1], shares)
    coarser = (
        _ancestral(points, prototypes, level, fine.prototype, shares) for level in range(finest)
    )
    return (*coarser, fine)


def _joined(parts: tuple[Assigned, ...]) -> Assigned:
    confidences = [part.confidence for part in parts if part.confidence is not None]
    return Assigned(
        prototype=torch.cat([part.prototype for part in parts]),
        similarity=torch.cat([part.similarity for part in parts]),
        margin=torch.cat([part.margin for part in parts]),
        confidence=torch.cat(confidences) if confidences else None,
    )


def outlier_scores(assigned: Assigned) -> Tensor:
    """(n,) 1 - similarity to the nearest prototype: the larger, the less like any of them."""
    return 1 - assigned.similarity


def _nearest(points: Tensor, prototypes: PrototypeSet, level: int) -> Assigned:
    similarities = points @ prototypes.levels[level].centroids.T
    shares = _shares(similarities, prototypes, level)
    return _describe(similarities, largest(similarities)[1], shares)


def _ancestral(
    points: Tensor, prototypes: PrototypeSet, level: int, finest: Tensor, shares: Tensor | None
) -> Assigned:
    above = prototypes.ancestors(level)
    similarities = points @ prototypes.levels[level].centroids.T
    summed = None if shares is None else torch.zeros_like(similarities).index_add_(1, above, shares)
    return _describe(similarities, above[finest], summed)


def _describe(similarities: Tensor, own: Tensor, shares: Tensor | None) -> Assigned:
    """Uses the similarities up: a copy of them would take longer than the rest."""
    column = own.unsqueeze(1)
    mine = similarities.gather(1, column).squeeze(1)
    if similarities.shape[1] > 1:
        margin = mine - similarities.scatter_(1, column, -torch.inf).amax(dim=1)
    else:
        margin = torch.full_like(mine, torch.nan)
    confidence = None if shares is None else shares.gather(1, column).squeeze(1).clamp_max(1)
    return Assigned(own, mine, margin, confidence)


def _shares(similarities: Tensor, prototypes: PrototypeSet, level: int) -> Tensor | None:
    """(n, K) the softmax; None without a temperature."""
    if prototypes.calibration is None:
        return None
    return torch.softmax(similarities / prototypes.calibration.temperatures[level], dim=1)
