"""Probes on frozen features: how well labels can be read off them. N rows queried, B rows of the bank, D width."""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # queries at once: their similarities to 100 000 rows take 400 MB


def knn_predict(
    bank: Tensor, labels: Tensor, queries: Tensor, *, k: int = 200, temperature: float = 0.1, classes: int | None = None
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
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k} must lie between 1 and the size of the bank, {len(bank)}")
    width = classes if classes is not None else int(labels.max()) + 1
    bank = F.normalize(bank, dim=1)
    predicted = []
    for chunk in torch.split(F.normalize(queries, dim=1), CHUNK):
        similarity, nearest = (chunk @ bank.T).topk(k, dim=1)
        weights = (similarity / temperature).exp()
        votes = weights.new_zeros(len(chunk), width).scatter_add_(1, labels[nearest], weights)
        predicted.append(votes.argmax(dim=1))
    return torch.cat(predicted)
