"""Did it coagulate, did it collapse? Measured after each E-step on its own features (method.md §6)."""

import torch
from torch import Tensor

from pauc_hub.kmeans import cluster_means
from pauc_hub.metrics import effective_rank, nmi, size_entropy, uniformity
from pauc_hub.training.config import Config
from pauc_hub.training.draws import Purpose, torch_draws
from pauc_hub.training.estep import Expectation

SAMPLE = 4096  # rows that the quadratic measures look at


def spread(features: Tensor, assignment: Tensor, count: int) -> dict[str, float]:
    """How much of the features' variance lies within clusters: coagulation makes intra_share fall steadily.

    Args:
        features: (N, D).
        assignment: (N,) int64 in [0, count).
    """
    centroids, sizes = cluster_means(features, assignment, count)
    squared = (features - centroids[assignment]).square().sum(dim=1)
    within = features.new_zeros(count).index_add_(0, assignment, squared) / sizes.clamp_min(1)
    intra = within[sizes >= 2].mean().item() if bool((sizes >= 2).any()) else 0.0
    gaps = (centroids - features.mean(dim=0)).square().sum(dim=1)
    inter = ((gaps * sizes).sum() / sizes.sum()).item()
    return {"intra_variance": intra, "inter_variance": inter, "intra_share": intra / max(intra + inter, 1e-12)}


def diagnose(
    features: Tensor, readable: Tensor, now: Expectation, before: Expectation | None, config: Config
) -> dict[str, float]:
    """The table of method.md §6 for the finest clustering.

    Args:
        features: (N, D) of the E-step; rows that are not `readable` are left out.
        before: the last epoch's E-step, if there was one.
    """
    assert config.clusters is not None, "resolve() fills it in"
    rows = readable.to(features.device)
    points, assignment, sizes = features[rows], now.assignments[-1][rows], now.prototypes[-1].sizes
    drawn = torch.randperm(len(points), generator=torch_draws(config.seed, Purpose.SAMPLE))[:SAMPLE]
    sample = points[drawn.to(points.device)]
    found = spread(points, assignment, len(sizes)) | {
        "effective_rank": effective_rank(sample),
        "uniformity": uniformity(sample),
        "size_entropy": size_entropy(sizes),
        "empty": float(config.clusters[-1] - len(sizes)),
        "singletons": float((sizes == 1).sum().item()),
    }
    if before is not None:
        found["assignment_nmi"] = nmi(assignment, before.assignments[-1][rows])
    return found
