"""k-means++ in batches: K points of which each is drawn with probability ∝ its squared distance to
those before it.

Drawn one by one, that is K passes over the points. Here many are proposed at once by the distances
known so far, and a proposal is kept with probability (its distance now) / (its distance when
proposed): rejection sampling, so that the seeds follow exactly the distribution of k-means++, for
the price of about one Lloyd iteration.
"""

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.collective import Collective, gather
from pauc_hub.clustering.kmeans.nearest import best_scores, squared_distances

PROPOSALS = 2048  # at once; their mutual distances are a matrix of 16 MiB
ROUNDING = 1e-6  # of |x|^2: a squared distance below it is noise, and the point lies on a seed


def plus_plus(
    points: Tensor, norms: Tensor, k: int, generator: torch.Generator, group: Collective
) -> Tensor:
    """(K, D) points. Where fewer differ, equal ones fill up.

    Args:
        points: (N, D), this process's rows.
        norms: (N,) |x|^2.
        generator: on the CPU, in the same state in every process.
    """
    weights = torch.ones_like(norms)  # the first seed is any point
    seeds = points.new_empty(0, points.shape[1])
    while len(seeds) < k:
        count = max(1, min(PROPOSALS, len(seeds), 2 * (k - len(seeds))))
        proposed, distances = _propose(points, weights, count, generator, group)
        if len(seeds) > 0:
            proposed = proposed[_accepted(proposed, distances, generator)]
        new = proposed[: k - len(seeds)]
        gaps = squared_distances(norms, best_scores(points, new)[1])
        gaps[gaps <= ROUNDING * norms] = 0
        weights = gaps if len(seeds) == 0 else torch.minimum(weights, gaps)
        seeds = torch.cat([seeds, new])
        if group.sum(weights.sum(dtype=torch.float64)).item() == 0:
            return torch.cat(
                [
                    seeds,
                    _propose(points, torch.ones_like(norms), k - len(seeds), generator, group)[0],
                ]
            )
    return seeds


def _propose(
    points: Tensor, weights: Tensor, count: int, generator: torch.Generator, group: Collective
) -> tuple[Tensor, Tensor]:
    """`count` points drawn ∝ weights, with replacement, from all processes: (count, D) and their
    (count,) weights.
    """
    cumulated = weights.cpu().double().cumsum(dim=0)  # there, since a GPU adds in any order
    own = cumulated[-1:] if len(cumulated) > 0 else cumulated.new_zeros(1)
    ends = gather(own.to(points.device), group).flatten().cpu().cumsum(dim=0)
    draws = torch.rand(count, dtype=torch.float64, generator=generator) * ends[-1]
    owners = torch.searchsorted(ends, draws, right=True).clamp_max(group.size - 1)
    mine = (owners == group.rank).nonzero().squeeze(1)
    inside = draws[mine] - (ends[group.rank] - own)
    rows = (
        torch.searchsorted(cumulated, inside, right=True)
        .clamp_max(len(points) - 1)
        .to(points.device)
    )
    drawn = points.new_zeros(count, points.shape[1] + 1)
    drawn[mine.to(points.device)] = torch.cat([points[rows], weights[rows].unsqueeze(1)], dim=1)
    drawn = group.sum(drawn)
    return drawn[:, :-1], drawn[:, -1]


def _accepted(proposed: Tensor, distances: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) bool: which proposals are kept, as if they were looked at one after the other.

    Args:
        distances: (B,) squared, to the seeds that were known when they were proposed.
    """
    luck = torch.rand(len(proposed), dtype=torch.float64, generator=generator).to(
        proposed.device, proposed.dtype
    )
    mutual = torch.cdist(proposed, proposed, compute_mode="use_mm_for_euclid_dist").square_()
    # row i, if kept, rejects column j > i
    rejects = (mutual < luck * distances).triu(diagonal=1).to(proposed.dtype)
    kept = torch.ones_like(distances)
    # each turn settles at least one more in order, and mostly all are settled after a few
    while True:
        again = ((kept @ rejects) == 0).to(proposed.dtype)
        if torch.equal(again, kept):
            return kept.bool()
        kept = again
