"""How good a partition is, and how alike two are, as functions of arrays. N points, D width."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# rows whose distances to all others are held at once
ROWS_TOGETHER = 512


def adjusted_rand(first: Tensor, second: Tensor) -> float:
    """Adjusted Rand index of two labellings: 1 for the same partition, about 0 for unrelated ones;
    may be below 0.

    Args:
        first, second: (N,) int64 labels, any values; names do not matter.

    Returns:
        1 where both have a single class, or each point has its own in both.

    Source: Hubert & Arabie 1985; scikit-learn's adjusted_rand_score.
    """
    _, a = torch.unique(first, return_inverse=True)
    _, b = torch.unique(second, return_inverse=True)
    # only the pairs that occur are counted
    _, joint = torch.unique(a * (int(b.max()) + 1) + b, return_counts=True)
    together, in_first, in_second = (
        _pairs(counts) for counts in (joint, torch.bincount(a), torch.bincount(b))
    )
    everything = len(first) * (len(first) - 1) / 2
    expected = in_first * in_second / everything if everything else 0.0
    largest = (in_first + in_second) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def nmi_of_counts(counts: npt.NDArray[np.float64]) -> float:
    """metrics.nmi() of (C, K) weights of points by class and cluster; quick enough for
    resamples.
    """
    share = counts / counts.sum()
    first, second, joint = (
        _entropy(each) for each in (share.sum(axis=1), share.sum(axis=0), share.ravel())
    )
    if first + second == 0:
        return 1.0
    return max(0.0, 2 * (first + second - joint) / (first + second))


def adjusted_rand_of_counts(counts: npt.NDArray[np.float64]) -> float:
    """adjusted_rand() of (C, K) numbers of points by class and cluster."""
    n = counts.sum()
    sums = (counts, counts.sum(axis=1), counts.sum(axis=0))
    together, first, second = (float((each * (each - 1) / 2).sum()) for each in sums)
    expected = first * second / (n * (n - 1) / 2) if n > 1 else 0.0
    largest = (first + second) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def _entropy(share: npt.NDArray[np.float64]) -> float:
    known = share[share > 0]
    return float(-(known * np.log(known)).sum())


def silhouette(points: Tensor, labels: Tensor) -> float:
    """Mean silhouette by Euclidean distance: how much nearer points lie to their own cluster than
    to the next.

    Args:
        points: (N, D).
        labels: (N,) int64, any values.

    Returns:
        In [-1, 1]; a point alone in its cluster counts 0. NaN where there is one cluster only, or N
        clusters.

    Source: Rousseeuw 1987; scikit-learn's silhouette_score.
    """
    _, own = torch.unique(labels, return_inverse=True)
    sizes = torch.bincount(own)
    if not 1 < len(sizes) < len(points):
        return float("nan")
    points = points.double()
    total = 0.0
    for start in range(0, len(points), ROWS_TOGETHER):
        rows = slice(start, start + ROWS_TOGETHER)
        distances = torch.cdist(points[rows], points)
        sums = distances.new_zeros(len(distances), len(sizes)).index_add_(1, own, distances)
        mine = own[rows].unsqueeze(1)
        within = sums.gather(1, mine).squeeze(1) / (sizes[own[rows]] - 1).clamp_min(1)
        nearest = (sums / sizes).scatter_(1, mine, torch.inf).amin(dim=1)
        score = (nearest - within) / torch.maximum(nearest, within).clamp_min(1e-300)
        total += float(score.where(sizes[own[rows]] > 1, 0.0).sum())
    return total / len(points)


def _pairs(counts: Tensor) -> float:
    counts = counts.double()
    return float((counts * (counts - 1) / 2).sum())
