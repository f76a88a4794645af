"""Objectives of the M-step: InfoNCE, ProtoNCE, PAUC's three terms and scattering (method.md §2,
§4).

N batch, D projection width, K prototypes, R queue. Every loss is a mean over the batch, in nats. No
shape depends on a tensor's values, so that a GPU is never waited for.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float, masked: Tensor | None = None
) -> Tensor:
    """Tell each query's own key from the queue's.

    Args:
        q: (N, D) queries, unit norm; the only input that gradient reaches.
        k: (N, D) keys, unit norm; row i belongs to query i.
        queue: (R, D) past keys, unit norm.
        temperature: divides the similarities.
        masked: (N, R) bool, True where a past key is no negative, as those of the query's own
            image; none is unless given.

    Returns:
        () loss; log(R + 1) where the queries tell nothing apart, 0 where no negative is left.

    Source: He et al. 2020, eq. 1; method.md §1 for the mask, §2.
    """
    positive = (q * k.detach()).sum(dim=1, keepdim=True)
    negatives = q @ queue.detach().T
    if masked is not None:
        negatives = negatives.masked_fill(masked, -torch.inf)
    # 1 + R columns
    logits = torch.cat([positive, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def proto_nce(
    q: Tensor,
    prototypes: Tensor,
    concentration: Tensor,
    assignment: Tensor,
    there: Tensor | None = None,
) -> Tensor:
    """Pull each query to its own prototype and away from the others, each of which stands among the
    logits once.

    Args:
        q: (N, D) queries, unit norm.
        prototypes: (K, D), unit norm; constants of the E-step, no gradient reaches them.
        concentration: (K,) > 0; a looser cluster has a larger one, so softer logits.
        assignment: (N,) int64 in [0, K).
        there: (K,) bool, False where a row only fills the shape; all are there unless given.

    Returns:
        () loss; log K where q tells the prototypes apart not at all.

    Source: Li et al. 2021, eq. 11; method.md §2 for what differs from the authors' code.
    """
    logits = q @ prototypes.detach().T / concentration  # (N, K)
    if there is not None:
        logits = logits.masked_fill(~there, -torch.inf)
    return F.cross_entropy(logits, assignment)


def alignment_loss(p: Tensor, p_key: Tensor, there: Tensor) -> Tensor:
    """Mean squared distance of each prototype's two views, in [0, 4]; blind to how its members
    spread.

    Args:
        p: (N, D) batch prototypes of the queries.
        p_key: (N, D) those of the keys; constant.
        there: (N,) 1 for the rows that are prototypes, 0 for those that fill the shape.

    Source: method.md §4, Align.
    """
    return ((p - p_key.detach()).square().sum(dim=1) * there).sum() / there.sum()


def uniformity_loss(p: Tensor, there: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean Gaussian potential over distinct pairs of prototypes, at most 0; lower is
    more spread.

    Args:
        p: (N, D), unit norm. 0 where |A| < 2.
        there: (N,) as for alignment_loss().

    Source: Wang & Isola 2020, eq. 2; method.md §4, Unif.
    """
    return _log_mean_potential(p, torch.outer(there, there).triu(diagonal=1), t)


def uniformity_apart(q: Tensor, assignment: Tensor, t: float = 2.0) -> Tensor:
    """The same over pairs of queries whose prototypes differ; 0 where all have one prototype.

    Args:
        q: (N, D) queries, unit norm.
        assignment: (N,) int64, each query's prototype.

    Source: method.md §4, Unif_B.
    """
    apart = assignment.unsqueeze(1) != assignment
    return _log_mean_potential(q, apart.to(q.dtype), t)


def _log_mean_potential(p: Tensor, pairs: Tensor, t: float) -> Tensor:
    """`pairs` is (N, N), 1 where the pair counts; 0 where none does."""
    potential = torch.exp(-t * (2 - 2 * p @ p.T)) * pairs  # unit rows
    none = (pairs.sum() == 0).to(p.dtype)  # then this is the log of 1
    return torch.log((potential.sum() + none) / (pairs.sum() + none))


def correlation_loss(
    p: Tensor, p_key: Tensor, there: Tensor, off_diagonal: float = 1.0, eps: float = 1e-6
) -> Tensor:
    """Each dimension agrees across views, and no two say the same. Both parts are means, so neither
    depends on D.

    Args:
        p: (N, D) batch prototypes of the queries. 0 where |A| < 2.
        p_key: (N, D) those of the keys; constant.
        there: (N,) as for alignment_loss().
        off_diagonal: lambda, the weight of the second part.
        eps: added to each column's variance, so that a constant column gives 0, not NaN.

    Source: method.md §4, Corr; after Zbontar et al. 2021.
    """
    width, count = p.shape[1], there.sum()
    x = _standardise(p, there, eps).T @ _standardise(p_key.detach(), there, eps) / count  # (D, D)
    agreement = x.diagonal()
    redundancy = x.square().sum() - agreement.square().sum()
    loss = (1 - agreement).square().mean() + off_diagonal * redundancy / (width * (width - 1))
    return loss * (count >= 2)


def _standardise(p: Tensor, there: Tensor, eps: float) -> Tensor:
    """Over the rows that are there; the others stay zero."""
    rows, count = there.unsqueeze(1), there.sum()
    centred = (p - (p * rows).sum(dim=0) / count) * rows
    return centred / (centred.square().sum(dim=0) / count + eps).sqrt()


def scattering(p: Tensor, p_key: Tensor, there: Tensor, temperature: float = 0.5) -> Tensor:
    """Tell each prototype seen through the other view from all other prototypes: alignment and
    uniformity in one.

    Args:
        p: (N, D) batch prototypes of the queries, unit norm. 0 where |A| < 2.
        p_key: (N, D) those of the keys; constant.
        there: (N,) as for alignment_loss().
        temperature: divides the similarities.

    Returns:
        () loss; log |A| where p tells nothing apart.

    Source: Huang et al. 2022, prototype scattering loss (ProPos); method.md §4.
    """
    positive = (p * p_key.detach()).sum(dim=1)
    others = (p @ p.T).masked_fill(there == 0, -torch.inf)
    logits = (
        torch.where(torch.eye(len(p), dtype=torch.bool, device=p.device), positive.diag(), others)
        / temperature
    )
    losses = logits.logsumexp(dim=1) - positive / temperature
    return (losses * there).sum() / there.sum()
