"""The E-step: features of all images by an encoder, then prototypes of M clusterings (method.md
§3).
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.clustering.prototypes import Prototypes, describe_clusters
from pauc_hub.errors import ClusteringFailed, TooFewDistinct, TrainingFailed
from pauc_hub.inference.features import encode_squares, features
from pauc_hub.training.config import Config
from pauc_hub.training.data import Loader
from pauc_hub.training.distributed import ONE_PROCESS, World
from pauc_hub.training.networks.encoder import Encoder, evaluating
from pauc_hub.training.rng import Purpose, seed_for, torch_draws

# images that are compared to tell copies from collapse
COMPARED = 256


@dataclass(frozen=True)
class Expectation:
    """What the E-step found, for the M-step to learn with.

    Attributes:
        prototypes: of each clustering, coarse to fine.
        assignments: of each clustering, (N,) int64, every image's prototype; 0 for those that
            cannot be read, which the M-step never sees.
    """

    prototypes: tuple[Prototypes, ...]
    assignments: tuple[Tensor, ...]


@torch.no_grad()
def all_features(
    encoder: Encoder,
    loader: Loader,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    seen: Callable[[int], None],
    world: World = ONE_PROCESS,
) -> tuple[Tensor, Tensor]:
    """Projections of every image under the evaluation transform, each exactly once.

    Args:
        seen: called with the size of each batch done, equally often on all processes; what it
            raises ends the pass.

    Returns:
        (N, D) unit rows, and (N,) bool: which images could be read; of this process's stretch of
        the N images.
    """
    total = len(loader.source)
    count = -(-total // (world.size * batch_size))  # of batches, the same on all processes
    batches = [
        part.tolist() for part in torch.arange(total)[world.stretch(total)].tensor_split(count)
    ]
    found, readable = [], []

    def encode(batch: tuple[Tensor, Tensor]) -> Tensor:
        return encode_squares(encoder, batch[0], loader.preprocessing, device, dtype)

    with evaluating(encoder), closing(loader.squares(batches)) as squares:
        for rows, (_, decoded) in features(encode, squares):
            found.append(rows)
            readable.append(decoded)
            seen(len(rows))
    return torch.cat(found), torch.cat(readable)


def expect(
    features: Tensor,
    readable: Tensor,
    config: Config,
    epoch: int,
    world: World = ONE_PROCESS,
    heed: Callable[[], None] = lambda: None,
) -> Expectation:
    """Cluster the readable images once for each number of clusters.

    Args:
        features, readable: of this process's stretch, as `all_features` returns them; the result is
            that of all.
        heed: called before each iteration of k-means, equally often on all processes; what it
            raises ends the step.

    Raises:
        TrainingFailed: the features are not finite.
        ClusteringFailed: too few images can be read, or too few features differ; see
            `reason_and_remedy`.
    """
    points = features[readable.to(features.device)]
    spoilt = (~torch.isfinite(points)).sum()
    counts = [torch.full_like(spoilt, len(each)) for each in (features, points)]
    total, found_readable, found_spoilt = world.sum(torch.stack([*counts, spoilt])).tolist()
    if found_spoilt:
        raise TrainingFailed(
            "the features are no longer finite: training diverged. Try a lower lr."
        )
    assert config.clusters is not None, "resolve() fills it in"
    if found_readable < config.clusters[-1]:
        raise ClusteringFailed(
            f"only {found_readable} of {total} images can be read, fewer than "
            f"clusters={config.clusters[-1]}."
        )
    found: list[tuple[Prototypes, Tensor]] = []
    for m, count in enumerate(config.clusters):
        clustering = kmeans(
            points,
            count,
            iterations=config.kmeans_iterations,
            restarts=config.kmeans_restarts,
            seed=seed_for(config.seed, Purpose.CLUSTERS, epoch, m) % 2**31,  # faiss takes 32 bits
            backend=config.kmeans,
            heed=heed,
            group=world,
        )
        coarser = found[-1][0] if found else None
        found.append(describe_clusters(points, clustering, config.temperature, coarser, world))
    assignments = (world.gather(_spread(own, readable), total) for _, own in found)
    return Expectation(tuple(p for p, _ in found), tuple(assignments))


def shuffled(expectation: Expectation, seed: int, epoch: int) -> Expectation:
    """The same clusters with their members drawn by lot: as a control, whether clusters matter at
    all (method.md §4).

    All clusterings are shuffled alike, so that they nest as before.
    """
    assignments = []
    for assignment in expectation.assignments:
        order = torch.randperm(len(assignment), generator=torch_draws(seed, Purpose.CONTROL, epoch))
        assignments.append(assignment[order.to(assignment.device)])
    return Expectation(expectation.prototypes, tuple(assignments))


def reason_and_remedy(failure: ClusteringFailed, loader: Loader) -> tuple[str, str]:
    """Why a clustering failed in terms of the images, and what to do; a sentence each.

    Features coincide where the images are copies of a few, and where the encoder no longer tells
    different ones apart: looking at the images decides.
    """
    if not isinstance(failure, TooFewDistinct):
        return str(failure), "Remove what cannot be read, or give fewer clusters."
    if distinct_images(loader) > failure.distinct:
        return (
            "all members of each cluster coincide: the features have collapsed.",
            "Try a lower lr, a longer warmup or fewer clusters.",
        )
    return told_distinct(failure.distinct, len(loader.source), failure.clusters)


def told_distinct(distinct: int, images: int, clusters: int) -> tuple[str, str]:
    """That too few images differ, and what to do; a sentence each."""
    fewer = f"give clusters of at most {distinct - 1}, " if distinct > 2 else ""
    return (
        f"only {distinct} of {images} images are distinct, too few for clusters={clusters}.",
        f"Remove the copies, {fewer}or train with objective='infonce', which needs no clusters.",
    )


def distinct_images(loader: Loader) -> int:
    """Of the readable images, or COMPARED of them, spread evenly: how many differ as the encoder
    sees them.
    """
    found = set()
    sample = list(range(0, len(loader.source), -(-len(loader.source) // COMPARED)))
    with closing(loader.squares([sample])) as squares:
        for pixels, readable in squares:
            found |= {image.numpy().tobytes() for image in pixels.cpu()[readable]}
    return len(found)


def _spread(assignment: Tensor, readable: Tensor) -> Tensor:
    """From one entry a readable image to one an image."""
    everywhere = assignment.new_zeros(len(readable))
    everywhere[readable.to(assignment.device)] = assignment
    return everywhere
