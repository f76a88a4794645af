"""Whether stated confidences come true, as functions of arrays. N rows."""

import torch
from torch import Tensor

BINS = 15


def expected_calibration_error(confidence: Tensor, outcome: Tensor, bins: int = BINS) -> float:
    """Mean gap between what was stated and what came true, over bins of equal width.

    Args:
        confidence: (N,) in [0, 1], N > 0.
        outcome: (N,) in [0, 1]: whether it came true, or in which share of the cases.

    Source: Guo et al. 2017, equation 3.
    """
    place = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, place, outcome.double() - confidence.double())
    return float(gaps.abs().sum() / len(confidence))
