"""Measures of features and of clusterings, as functions of arrays. N rows, D width; natural
logarithms.
"""

import torch
from torch import Tensor


def nmi(first: Tensor, second: Tensor) -> float:
    """Normalised mutual information of two labellings, in [0, 1]: 2 I / (H + H'), scikit-learn's
    default.

    Args:
        first, second: (N,) int64 labels, any values; names do not matter.

    Returns:
        1 for the same partition, 0 for independent ones; 1 where both have a single class.
    """
    _, a = torch.unique(first, return_inverse=True)
    _, b = torch.unique(second, return_inverse=True)
    # only the pairs that occur are counted: of 100,000 labels each, all pairs would take 80 GB
    _, joint = torch.unique(a * (int(b.max()) + 1) + b, return_counts=True)
    entropy_a, entropy_b = (_entropy(torch.bincount(labels)) for labels in (a, b))
    entropy_joint = _entropy(joint)
    if entropy_a + entropy_b == 0:
        return 1.0
    return max(0.0, 2 * (entropy_a + entropy_b - entropy_joint) / (entropy_a + entropy_b))


def size_entropy(sizes: Tensor) -> float:
    """Entropy of the clusters' sizes over log K, in [0, 1]; 1 where all are equal (and for a single
    one).
    """
    return (
        _entropy(sizes) / max(torch.log(torch.tensor(float(len(sizes)))).item(), 1e-12)
        if len(sizes) > 1
        else 1.0
    )


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features: how many
    dimensions are in use.

    Args:
        features: (N, D), N >= 2.

    Returns:
        Between 1 (all rows on a line: collapse) and min(N, D); 0 where all rows coincide.

    Source: Roy & Vetterli 2007; method.md §6.
    """
    centred = (features - features.mean(dim=0)).double()
    values = torch.linalg.svdvals(centred)
    if values.sum() <= 1e-9 * max(1.0, features.norm().item()):
        return 0.0
    return float(torch.tensor(_entropy(values)).exp())


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """log of the mean Gaussian potential over distinct pairs of unit rows; lower is more uniform.

    Args:
        features: (N, D) unit rows, N >= 2; all N (N - 1) / 2 pairs are taken.

    Source: Wang & Isola 2020; method.md §6.
    """
    return float(torch.pdist(features.float()).square().mul(-t).exp().mean().log())


def _entropy(weights: Tensor) -> float:
    share = weights[weights > 0].double() / weights.sum()
    return float(-(share * share.log()).sum())
