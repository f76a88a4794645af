"""Lloyd's iterations by faiss, which an extra installs."""

from typing import Any

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans.collective import Collective
from pauc_hub.clustering.kmeans.lloyd import Descent, Settings
from pauc_hub.clustering.kmeans.nearest import best_scores, squared_distances


def descend_with_faiss(
    points: Tensor, norms: Tensor, start: Tensor, settings: Settings, _: Collective
) -> Descent:
    """As `lloyd` does on one process; faiss fills empty clusters in its own way, and stops for
    nothing but Ctrl-C.
    """
    import faiss  # an extra; imported where used

    rows = points.cpu().numpy()
    trainer: Any = faiss.Kmeans(
        rows.shape[1],
        len(start),
        niter=settings.iterations,
        spherical=settings.spherical,
        gpu=points.is_cuda and hasattr(faiss, "StandardGpuResources"),
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # by default faiss looks at 256 points a centroid only
    )
    trainer.train(rows, init_centroids=start.cpu().numpy())
    centroids = torch.from_numpy(trainer.centroids.copy()).to(points.device)
    assignment, scores = best_scores(points, centroids)
    final = squared_distances(norms, scores).double().mean().item()
    # |x - c|^2 = |x|^2 + 1 - 2 x.c, and faiss sums x.c where spherical
    offset = norms.double().mean().item() + 1
    means = [float(total) / len(rows) for total in trainer.obj]
    objectives = [offset - 2 * mean for mean in means] if settings.spherical else means
    splits = sum(int(stats["nsplit"]) for stats in trainer.iteration_stats)
    return Descent(centroids, assignment, (*objectives, final), splits)
