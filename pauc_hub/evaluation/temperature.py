"""A temperature that makes probabilities true, and a curve that shows whether they are. N rows, C
classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.evaluation.calibration import BINS, expected_calibration_error

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures beyond these mean that the rows do not determine one, as where all are at chance."""
HALVINGS = 60
MOST_ROWS = 20_000
"""More determine one number no better."""


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The T that minimises the log loss of logits / T on rows that the classifier was not fitted
    on.

    Targets are softened by 1 / (N + 2), as if one more row had gone wrong: where all N are right,
    any smaller T would do better on them, and would claim certainty of whatever comes.

    Args:
        logits: (N, C), N > 0.
        targets: (N,) int64, or (N, C) of 0 and 1.

    Source: Guo et al. 2017, section 4.2; Platt 1999, section 2.2.
    """
    step = -(-len(logits) // MOST_ROWS)
    logits = logits[::step].double()
    targets = targets[::step]
    soft = 1 / (len(logits) + 2)
    several = targets.ndim == 2
    hot = targets.double() if several else F.one_hot(targets, logits.shape[1]).double()
    wanted = (1 - soft) * hot + soft / (2 if several else logits.shape[1])
    # The loss is convex in 1 / T, so its slope is bisected.
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = (middle * logits).sigmoid() if several else (middle * logits).softmax(dim=1)
        # the slope of the summed log loss by the inverse temperature
        if float(((found - wanted) * logits).sum()) > 0:
            high = middle
        else:
            low = middle
    return 2 / (low + high)


@dataclass(frozen=True)
class Reliability:
    """What was claimed and what came true, by confidence."""

    edges: npt.NDArray[np.float64]
    """(B + 1,) of the bins, which are equally wide."""
    counts: npt.NDArray[np.int64]
    """(B,) rows in each bin."""
    confidence: npt.NDArray[np.float64]
    """(B,) mean confidence in each bin; 0 for an empty one."""
    accuracy: npt.NDArray[np.float64]
    """(B,) share that is right in each bin; 0 for an empty one."""
    error: float
    """Expected calibration error: the mean gap of the two, weighted by rows."""


def reliability(
    confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Bin rows by confidence.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) whether what was claimed is true.

    Source: Guo et al. 2017, section 2.
    """
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(where, minlength=bins)
    filled = counts.clip(min=1)
    claimed = np.bincount(where, weights=confidence, minlength=bins) / filled
    true = np.bincount(where, weights=correct, minlength=bins) / filled
    error = expected_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(correct), bins
    )
    return Reliability(edges, counts, claimed, true, error)
