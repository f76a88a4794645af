"""Nearest neighbours on frozen features. N queries, B rows of the bank, D width."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # queries at once: their similarities to 100 000 rows take 400 MB
K, TEMPERATURE = 200, 0.1
"""Of the protocol that scores of networks are compared by; method.md §7."""
NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5)


def knn_predict(
    bank: Tensor,
    labels: Tensor,
    queries: Tensor,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
    classes: int | None = None,
) -> Tensor:
    """Weighted k-nearest-neighbour vote by cosine similarity.

    Args:
        bank: (B, D) features, of any length; they are normalised here.
        labels: (B,) int64 in [0, classes).
        queries: (N, D).
        k: neighbours that vote, at most B.
        temperature: a neighbour of similarity s has weight exp(s / temperature).
        classes: how many there are; by default one more than the largest label.

    Returns:
        (N,) int64 predicted labels.

    Source: Wu et al. 2018, section 3.4; method.md §7.
    """
    width = classes if classes is not None else int(labels.max()) + 1
    return knn_votes(bank, labels, queries, k=k, temperature=temperature, classes=width).argmax(
        dim=1
    )


def knn_votes(
    bank: Tensor, labels: Tensor, queries: Tensor, *, k: int, temperature: float, classes: int
) -> Tensor:
    """(N, classes) share of the votes; arguments as for knn_predict()."""
    similarity, nearest = neighbours(bank, queries, k)
    return _votes(similarity, labels[nearest], temperature, classes)


def neighbours(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarities (N, k), descending, and rows of the bank (N, k)."""
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k} must lie between 1 and the size of the bank, {len(bank)}")
    unit = F.normalize(bank, dim=1)
    found = [
        (chunk @ unit.T).topk(k, dim=1) for chunk in torch.split(F.normalize(queries, dim=1), CHUNK)
    ]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def choose_k(
    parts: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], classes: int
) -> tuple[int, float, float]:
    """The k and temperature with most right answers, of the grid NEIGHBOURS x TEMPERATURES.

    Args:
        parts: for each fold: bank, its labels, queries, their labels.

    Returns:
        k, temperature, and the accuracy on all queries. Of equals the smaller k, then the lower
        temperature.
    """
    right: dict[tuple[int, float], int] = {}
    most = min(len(bank) for bank, *_ in parts)
    for bank, labels, queries, truth in parts:
        similarity, nearest = neighbours(bank, queries, min(most, NEIGHBOURS[-1]))
        for k in (k for k in NEIGHBOURS if k <= most):
            for temperature in TEMPERATURES:
                votes = _votes(similarity[:, :k], labels[nearest[:, :k]], temperature, classes)
                hits = int((votes.argmax(dim=1) == truth).sum())
                right[k, temperature] = right.get((k, temperature), 0) + hits
    best = max(right, key=lambda pair: (right[pair], -pair[0], -pair[1]))
    return *best, right[best] / sum(len(truth) for *_, truth in parts)


def _votes(similarity: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    # The nearest has weight 1, whatever the temperature.
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    return votes / votes.sum(dim=1, keepdim=True)
