"""Objectives of the M-step: InfoNCE, ProtoNCE and PAUC's three terms (method.md §2, §4).

N batch, D projection width, K prototypes, R queue. Every loss is a mean over the batch, in nats. No shape depends on a
tensor's values, so that a GPU is never waited for.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.device import send


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """Tell each query's own key from the queue's.

    Args:
        q: (N, D) queries, unit norm; the only input that gradient reaches.
        k: (N, D) keys, unit norm; row i belongs to query i.
        queue: (R, D) past keys, unit norm.
        temperature: divides the similarities.
        own: (N, R) bool, True where a past key is of the query's own image and so no negative;
            none is unless given.

    Returns:
        () loss; log(R + 1) where the queries tell nothing apart, 0 where no negative is left.

    Source: He et al. 2020, eq. 1; method.md §1 for the mask, §2.
    """
    positive = (q * k.detach()).sum(dim=1, keepdim=True)
    negatives = q @ queue.detach().T
    if own is not None:
        negatives = negatives.masked_fill(own, -torch.inf)
    # 1 + R columns
    logits = torch.cat([positive, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


def proto_nce(
    q: Tensor, prototypes: Tensor, concentration: Tensor, assignment: Tensor, there: Tensor | None = None
) -> Tensor:
    """Pull each query to its own prototype and away from the others, each of which stands among the logits once.

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


class Members(NamedTuple):
    """The distinct prototypes A that a batch hit, in the order of their indices, and whose images are whose.

    |A| differs from batch to batch, and a GPU would have to be waited for to know it: so all that belongs to A has N
    rows, of which the first |A| count and the others are zero.
    """

    hit: Tensor
    """(N,) int64: the prototypes themselves."""
    number: Tensor
    """(N,) int64 in [0, |A|): which of them is each image's own."""
    sizes: Tensor
    """(N,) float32: how many of the batch's images each has; 0 in the rows that do not count."""

    @property
    def there(self) -> Tensor:
        """(N,) float32: 1 in the first |A| rows, else 0."""
        return (self.sizes > 0).to(self.sizes.dtype)


def batch_members(assignment: Tensor) -> Members:
    """Sort a batch by its prototypes.

    Args:
        assignment: (N,) int64, each image's prototype.
    """
    ordered, order = assignment.sort()
    fresh = ordered.diff(prepend=ordered[:1]) != 0  # the first of each prototype but the very first
    number = torch.zeros_like(order).scatter(0, order, fresh.cumsum(0))
    hit = torch.zeros_like(assignment).scatter(0, number, assignment)
    sizes = torch.zeros(len(assignment), device=assignment.device)
    return Members(hit, number, sizes.index_add(0, number, torch.ones_like(sizes)))


def choose_prototypes(
    members: Members, count: int, negatives: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The set J of method.md §2: those that the batch hit, and `negatives` more, drawn from the rest, each once.

    Args:
        members: of a batch of N.
        count: number of prototypes in the clustering; with count <= negatives all of them are in J.

    Returns:
        (J,) int64 prototypes, (J,) bool which of them are in J (the others fill the shape), and the (N,) position of
        each image's own.
    """
    device = members.hit.device
    if count <= negatives:
        every = torch.arange(count, device=device)
        return every, torch.ones_like(every, dtype=torch.bool), members.hit[members.number]
    rank = send(torch.rand(count, generator=generator), device)
    rank.index_fill_(0, members.hit[members.number], 2.0)  # behind all others
    last, drawn = rank.topk(negatives, largest=False)
    return torch.cat([members.hit, drawn]), torch.cat([members.sizes > 0, last < 2.0]), members.number


def batch_prototypes(x: Tensor, members: Members) -> Tensor:
    """Normalised mean of the rows of each prototype that the batch hit: (N, D), zero from row |A| on.

    Args:
        x: (N, D) queries or keys; gradient flows to them.

    Source: method.md §4. A mean of zero length stays (near) zero, with a finite gradient.
    """
    sums = torch.zeros_like(x).index_add(0, members.number, x)
    means = sums / members.sizes.clamp(min=1).unsqueeze(1)
    return means / (means.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()


def alignment(p: Tensor, p_key: Tensor, there: Tensor) -> Tensor:
    """Mean squared distance of each prototype's two views, in [0, 4]; blind to how its members spread.

    Args:
        p: (N, D) batch prototypes of the queries.
        p_key: (N, D) those of the keys; constant.
        there: (N,) 1 for the rows that are prototypes, 0 for those that fill the shape.

    Source: method.md §4, Align.
    """
    return ((p - p_key.detach()).square().sum(dim=1) * there).sum() / there.sum()


def uniformity(p: Tensor, there: Tensor, t: float = 2.0) -> Tensor:
    """log of the mean Gaussian potential over distinct pairs of prototypes, at most 0; lower is more spread.

    Args:
        p: (N, D), unit norm. 0 where |A| < 2.
        there: (N,) as for alignment().

    Source: Wang & Isola 2020, eq. 2; method.md §4, Unif.
    """
    pairs = torch.outer(there, there).triu(diagonal=1)
    potential = torch.exp(-t * (2 - 2 * p @ p.T)) * pairs  # unit rows
    none = (pairs.sum() == 0).to(p.dtype)  # then this is the log of 1
    return torch.log((potential.sum() + none) / (pairs.sum() + none))


def correlation(p: Tensor, p_key: Tensor, there: Tensor, off_diagonal: float = 1.0, eps: float = 1e-6) -> Tensor:
    """Each dimension agrees across views, and no two say the same. Both parts are means, so neither depends on D.

    Args:
        p: (N, D) batch prototypes of the queries. 0 where |A| < 2.
        p_key: (N, D) those of the keys; constant.
        there: (N,) as for alignment().
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
