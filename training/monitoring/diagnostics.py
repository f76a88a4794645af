"""Did it coagulate, did it collapse? Measured after each E-step on its own features (method.md
§6).
"""

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans import cluster_means, cluster_sums, squared_gaps
from pauc_hub.evaluation.metrics import effective_rank, nmi, size_entropy, uniformity
from pauc_hub.training.config import Config
from pauc_hub.training.distributed import ONE_PROCESS, World
from pauc_hub.training.estep import Expectation
from pauc_hub.training.rng import Purpose, torch_draws

SAMPLE = 4096  # rows that the quadratic measures look at


def spread(
    features: Tensor, assignment: Tensor, count: int, world: World = ONE_PROCESS
) -> dict[str, float]:
    """How much of the features' variance lies within clusters: coagulation makes intra_share fall
    steadily.

    Args:
        features: (N, D), this process's; what is measured is that of all.
        assignment: (N,) int64 in [0, count).
    """
    centroids, sizes = cluster_means(features, assignment, count, world)
    squared = squared_gaps(features, centroids, assignment)
    within = world.sum(cluster_sums(squared, assignment, count)) / sizes.clamp_min(1)
    intra = within[sizes >= 2].mean().item() if bool((sizes >= 2).any()) else 0.0
    mean = world.sum(features.sum(dim=0, dtype=torch.float64)) / sizes.sum()
    gaps = (centroids - mean).square().sum(dim=1)
    inter = ((gaps * sizes).sum() / sizes.sum()).item()
    return {
        "intra_variance": intra,
        "inter_variance": inter,
        "intra_share": intra / max(intra + inter, 1e-12),
    }


def diagnose(
    features: Tensor,
    readable: Tensor,
    now: Expectation,
    before: Expectation | None,
    config: Config,
    world: World = ONE_PROCESS,
) -> dict[str, float]:
    """The table of method.md §6 for the finest clustering.

    Args:
        features: (N, D) of the E-step, this process's; rows that are not `readable` are left out.
        before: the last epoch's E-step, if there was one.
    """
    assert config.clusters is not None, "resolve() fills it in"
    total, sizes = len(now.assignments[-1]), now.prototypes[-1].sizes
    own, rows = readable.to(features.device), world.gather(readable.to(features.device), total)
    points, assignment = features[own], now.assignments[-1][world.stretch(total)][own]
    sample = _sample(
        points, int(rows[: world.stretch(total).start].sum()), int(rows.sum()), config.seed, world
    )
    found = spread(points, assignment, len(sizes), world) | {
        "effective_rank": effective_rank(sample),
        "uniformity": uniformity(sample),
        "size_entropy": size_entropy(sizes),
        "empty": float(config.clusters[-1] - len(sizes)),
        "singletons": float((sizes == 1).sum().item()),
    }
    if before is not None:
        found["assignment_nmi"] = nmi(now.assignments[-1][rows], before.assignments[-1][rows])
    return found


def _sample(points: Tensor, start: int, total: int, seed: int, world: World) -> Tensor:
    """The same rows of all processes' points whoever holds them; these are the ones from `start`
    on, of `total`.
    """
    drawn = torch.randperm(total, generator=torch_draws(seed, Purpose.SAMPLE))[:SAMPLE] - start
    mine = (drawn >= 0) & (drawn < len(points))
    sample = points.new_zeros(len(drawn), points.shape[1])
    sample[mine.to(points.device)] = points[drawn[mine].to(points.device)]
    return world.sum(sample)
