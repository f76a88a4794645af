"""Confidence that comes true, and outliers, from images that no prototype was made from. n images,
K prototypes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pauc_hub.clustering.assignment import assign_points, outlier_scores
from pauc_hub.clustering.prototype_set import Calibration, PrototypeSet

# share of images from the same source that are flagged as outliers
ALPHA = 0.05
# temperatures that are looked at before the best is refined
LOWEST, HIGHEST, STEPS = 1e-3, 10.0, 60
REFINEMENTS = 30
GOLDEN = (5**0.5 - 1) / 2


def calibrate(
    kept: Tensor,
    prototypes: PrototypeSet,
    matched: Sequence[Sequence[Tensor]],
    error: Callable[[Tensor, Tensor], float],
    alpha: float = ALPHA,
) -> Calibration:
    """Fit temperatures so that confidence is the share of reclusterings that agree, and set what is
    an outlier.

    Even rows are fitted on, odd rows tell how good it is; so the rows must be in no order.

    Args:
        kept: (n, D) unit rows that the prototypes were not made from, n >= 4.
        prototypes: without a calibration.
        matched: for each clustering (one alone where granularities nest) what the reclusterings
            say: (n,) int64 each, the prototype that a row would belong to, or -1.
        error: what tells how far confidences (n,) and outcomes (n,) are apart.
    """
    fit, other = slice(0, None, 2), slice(1, None, 2)
    assigned = assign_points(kept, prototypes)
    levels = range(len(prototypes.levels))
    clusterings = [levels[-1]] if prototypes.nested else list(levels)
    temperatures = []
    for level, votes in zip(clusterings, matched, strict=True):
        similarities = kept[fit] @ prototypes.levels[level].centroids.T
        agreement = _agreement(assigned[level].prototype, votes)
        temperatures.append(temperature_for_agreement(similarities, agreement[fit]))
    if prototypes.nested:
        temperatures = temperatures * len(levels)
    scores = outlier_scores(assigned[-1])
    found = Calibration(
        temperatures=tuple(temperatures),
        errors=(),
        scores=scores[fit].sort().values,
        alpha=alpha,
        flagged=0.0,
        reclusterings=len(matched[0]),
    )
    confident = assign_points(kept[other], replace(prototypes, calibration=found))
    errors = []
    for level in levels:
        votes = matched[0 if prototypes.nested else level]
        votes = (
            [_ancestor(each, prototypes, level) for each in votes] if prototypes.nested else votes
        )
        agreement = _agreement(assigned[level].prototype, votes)
        confidence = confident[level].confidence
        assert confidence is not None, "there are temperatures"
        errors.append(error(confidence, agreement[other]))
    flagged = float((scores[other] > found.threshold(alpha)).double().mean())
    return replace(found, errors=tuple(errors), flagged=flagged)


def temperature_for_agreement(similarities: Tensor, agreement: Tensor) -> float:
    """The temperature at which the largest share of a softmax is most like the agreement, by
    cross-entropy.

    Args:
        similarities: (n, K).
        agreement: (n,) in [0, 1].
    """
    gaps = similarities - similarities.amax(dim=1, keepdim=True)
    target = agreement.double()

    def loss(logarithm: float) -> float:
        logs = -torch.logsumexp(gaps / float(np.exp(logarithm)), dim=1).double()
        missing = torch.log1p(-logs.exp().clamp_max(1 - 1e-7))
        return float(-(target * logs + (1 - target) * missing).mean())

    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), STEPS)
    best = int(np.argmin([loss(each) for each in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, STEPS - 1)])
    for _ in range(REFINEMENTS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _agreement(reference: Tensor, votes: Sequence[Tensor]) -> Tensor:
    """(n,) share of the votes that are for the reference."""
    return torch.stack([vote == reference for vote in votes]).float().mean(dim=0)


def _ancestor(matched: Tensor, prototypes: PrototypeSet, level: int) -> Tensor:
    above = prototypes.ancestors(level)
    return torch.where(matched >= 0, above[matched.clamp_min(0)], -1)
