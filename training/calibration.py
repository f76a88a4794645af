"""Confidence and outliers for a model's own prototypes, from images that were kept out (method.md
§8).

N images that were trained on, n that were not, D projection width, K prototypes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pauc_hub.clustering.calibration import calibrate
from pauc_hub.clustering.kmeans import assign_nearest
from pauc_hub.clustering.prototype_set import Calibration, PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.clustering.reclustering import matched_again
from pauc_hub.evaluation.calibration import expected_calibration_error
from pauc_hub.origin import Origin
from pauc_hub.training.distributed import ONE_PROCESS, World
from pauc_hub.training.rng import Purpose, seed_for

# half of those of `pauc cluster`: each takes as long as an E-step's clustering
RECLUSTERINGS = 10


@torch.no_grad()
def calibrate_clusterings(
    points: Tensor,
    kept: Tensor,
    clusterings: Sequence[Prototypes],
    seed: int,
    world: World = ONE_PROCESS,
    done: Callable[[], None] = lambda: None,
) -> Calibration:
    """How far to trust an assignment to the prototypes of independent clusterings.

    Args:
        points: (N, D) unit rows that the prototypes are made from, the same on all processes.
        kept: (n, D) unit rows of images that were not trained on, in no order, n >= 4; the same on
            all processes.
        clusterings: coarse to fine, of unit centroids.
        seed: of the run.
        world: the processes, which share the reclusterings; their number changes nothing.
        done: called after each round of reclusterings, equally often on all processes; what it
            raises ends it.
    """
    references = [assign_nearest(points, level.centroids)[0] for level in clusterings]
    votes = torch.zeros(
        len(clusterings), RECLUSTERINGS, len(kept), dtype=torch.int64, device=points.device
    )
    for start in range(0, RECLUSTERINGS, world.size):
        own = start + world.rank
        if own < RECLUSTERINGS:
            for m, level in enumerate(clusterings):
                bootstrap = seed_for(seed, Purpose.BOOTSTRAP, own, m)
                k = len(level.centroids)
                votes[m, own] = matched_again(
                    points, references[m], k, kept, bootstrap, spherical=False
                )
        done()
    votes = world.sum(votes).cpu()
    # what they are derived from is known once the folder is written
    prototypes = PrototypeSet(
        tuple(on_cpu(level) for level in clusterings),
        Origin("", "projection", {}),
        nested=False,
        names=unnamed(clusterings),
    )
    return calibrate(kept.cpu().float(), prototypes, list(votes), expected_calibration_error)


def on_cpu(level: Prototypes) -> Prototypes:
    """The same prototypes, where `calibrate` works."""
    return Prototypes(
        level.centroids.cpu().float(),
        level.concentrations.cpu(),
        level.sizes.cpu(),
        level.radius.cpu(),
    )
