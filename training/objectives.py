"""Objectives of the M-step: InfoNCE, ProtoNCE and PAUC's three terms (method.md §2, §4).

N batch, D projection width, K prototypes, R queue. Every loss is a mean over the batch, in nats.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Tell each query's own key from the queue's.

    Args:
        q: (N, D) queries, unit norm; the only input that gradient reaches.
        k: (N, D) keys, unit norm; row i belongs to query i.
        queue: (R, D) past keys, unit norm.
        temperature: divides the similarities.

    Returns:
        () loss; log(R + 1) where the queries tell nothing apart.

    Source: He et al. 2020, eq. 1; method.md §2.
    """
    positive = (q * k.detach()).sum(dim=1, keepdim=True)  # (N, 1)
    logits = torch.cat([positive, q @ queue.detach().T], dim=1) / temperature  # (N, 1 + R)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def proto_nce(q: Tensor, prototypes: Tensor, concentration: Tensor, assignment: Tensor) -> Tensor:
    """Pull each query to its own prototype and away from the others, each of which stands among the logits once.

    Args:
        q: (N, D) queries, unit norm.
        prototypes: (K, D), unit norm; constants of the E-step, no gradient reaches them.
        concentration: (K,) > 0; a looser cluster has a larger one, so softer logits.
        assignment: (N,) int64 in [0, K).

    Returns:
        () loss; log K where q tells the prototypes apart not at all.

    Source: Li et al. 2021, eq. 11; method.md §2 for what differs from the authors' code.
    """
    logits = q @ prototypes.detach().T / concentration  # (N, K)
    return F.cross_entropy(logits, assignment)


def choose_prototypes(
    assignment: Tensor, count: int, negatives: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The set J of method.md §2: those that the batch hit, and `negatives` more, drawn from the rest, each once.

    Args:
        assignment: (N,) int64 in [0, count).
        count: number of prototypes in the clustering; with count <= negatives all of them are in J.

    Returns:
        (|J|,) int64 distinct prototypes, and the (N,) position in J of each image's own.
    """
    if count <= negatives:
        return torch.arange(count, device=assignment.device), assignment
    hit, target = torch.unique(assignment, return_inverse=True)
    rank = torch.rand(count, generator=generator).to(assignment.device)
    rank[hit] = 2.0  # behind all others
    drawn = rank.topk(min(negatives, count - len(hit)), largest=False).indices
    return torch.cat([hit, drawn]), target


def batch_prototypes(x: Tensor, assignment: Tensor) -> Tensor:
    """Normalised mean of the rows of each prototype that the batch hit: (|A|, D), in the order of their indices.

    Args:
        x: (N, D) queries or keys; gradient flows to them.
        assignment: (N,) int64.

    Source: method.md §4. A mean of zero length stays (near) zero, with a finite gradient.
    """
    hit, member_of = torch.unique(assignment, return_inverse=True)
    sums = x.new_zeros(len(hit), x.shape[1]).index_add(0, member_of, x)
    means = sums / torch.bincount(member_of, minlength=len(hit)).unsqueeze(1)
    return means / (means.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()


def alignment(p: Tensor, p_key: Tensor) -> Tensor:
    """Mean squared distance of each prototype's two views, in [0, 4]; blind to how its members spread.

    Args:
        p: (|A|, D) batch prototypes of the queries.
        p_key: (|A|, D) those of the keys; constant.

    Source: method.md §4, Align.
    """
    return (p - p_key.detach()).square().sum(dim=1).mean()


def uniformity(p: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean Gaussian potential over distinct pairs of prototypes, at most 0; lower is more spread.

    Args:
        p: (|A|, D), unit norm. 0 where |A| < 2.

    Source: Wang & Isola 2020, eq. 2; method.md §4, Unif.
    """
    if len(p) < 2:
        return p.new_zeros(())
    a, b = torch.triu_indices(len(p), len(p), offset=1, device=p.device)
    squared = 2 - 2 * (p @ p.T)[a, b]  # unit rows
    return torch.logsumexp(-t * squared, dim=0) - torch.log(squared.new_tensor(float(len(a))))


def correlation(p: Tensor, p_key: Tensor, off_diagonal: float = 1.0, eps: float = 1e-6) -> Tensor:
    """Each dimension agrees across views, and no two say the same. Both parts are means, so neither depends on D.

    Args:
        p: (|A|, D) batch prototypes of the queries. 0 where |A| < 2.
        p_key: (|A|, D) those of the keys; constant.
        off_diagonal: lambda, the weight of the second part.
        eps: added to each column's variance, so that a constant column gives 0, not NaN.

    Source: method.md §4, Corr; after Zbontar et al. 2021.
    """
    count, width = p.shape
    if count < 2:
        return p.new_zeros(())
    x = _standardise(p, eps).T @ _standardise(p_key.detach(), eps) / count  # (D, D)
    agreement = x.diagonal()
    redundancy = x.square().sum() - agreement.square().sum()
    return (1 - agreement).square().mean() + off_diagonal * redundancy / (width * (width - 1))


def _standardise(p: Tensor, eps: float) -> Tensor:
    centred = p - p.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + eps).sqrt()
