"""A minute of training that leaves nothing, to tell what a run would take. N images, D projection
width, K clusters.
"""

import dataclasses
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import Clustering, kmeans
from pauc_hub.clustering.prototypes import Prototypes, describe_clusters
from pauc_hub.clustering.reclustering import ITERATIONS, bootstrap_size
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.metrics import nmi
from pauc_hub.processes import Ranks, default_workers
from pauc_hub.progress import Bar, progress_bar
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.auto import Choice
from pauc_hub.training.calibration import RECLUSTERINGS
from pauc_hub.training.config import Config
from pauc_hub.training.data import Views
from pauc_hub.training.data.kept_out import keep_out
from pauc_hub.training.data.resident import Resident
from pauc_hub.training.data.views import epoch_batches
from pauc_hub.training.estep import Expectation, all_features
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.machine import limits_explained, machine_of
from pauc_hub.training.networks.norms import BATCHES_MEASURED
from pauc_hub.training.state import Training, new_training, take_step

LEARNING_SECONDS, FEATURE_SECONDS = 25.0, 12.0  # with imports and k-means, about a minute
MOST_STEPS = 200
WARMING_UP = 2  # steps that are not counted
READ = 1 << 13  # of the images that a run would read into memory
POINTS = 1 << 14  # that k-means is tried on
FEATURE_COPIES = 3  # at once: of all images, of the readable ones, and these about their mean


@dataclass(frozen=True)
class Estimate:
    """What a run would take here, if the machine stays as busy as it is."""

    seconds: float
    """Of the whole run."""
    learning_seconds: float
    """Of an epoch's M-step."""
    step_seconds: float
    estep_seconds: float
    saving_seconds: float
    """Of a checkpoint."""
    memory_gib: float
    """Of this process at its peak."""
    gpu_memory_gib: float | None
    available_gib: float
    """Of the GPU where there is one, else of the machine."""
    reading_seconds: float = 0.0
    """Once, of all images into memory; 0 where they are streamed."""
    calibration_seconds: float = 0.0
    """Once, at the end, of the prototypes; 0 where no images are kept out for that."""


@dataclass(frozen=True)
class DryRun:
    """What a run would be, and take."""

    config: Config
    """Its settings, resolved."""
    choices: tuple[Choice, ...]
    """Those that nobody gave, each with its reason."""
    estimate: Estimate


def rehearse(
    source: ImageSource,
    config: Config,
    device: torch.device,
    workers: int | None = None,
    *,
    quiet: bool = False,
) -> Estimate:
    """Take a few steps, embed a few batches, cluster a few points; then multiply.

    Args:
        source: all images, those that are kept out of training among them.
        config: resolved.

    Raises:
        UsageError: several processes were started.
        TrainingFailed: a step does not fit the GPU.
    """
    if Ranks.from_environment().several:
        raise UsageError("a rehearsal tries one process: start it without torchrun.")
    clustered, clusters = config.objective != "infonce", config.clusters or ()
    source, kept = keep_out(source, config)
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(None, "trying it out", quiet=quiet) as bar,
        limits_explained(config),
    ):
        threads = workers or default_workers()
        state = new_training(
            Path(folder), config, source, device, threads, StopRequest(), True, most=READ
        )
        if clustered:
            state.expectation = _pretended(len(source), clusters, config.dim, device)
        # one a side: with progressive resolution there are several
        steps = {side: _step_seconds(state, side, bar) for side in _sides(config)}
        features = {side: _feature_seconds(state, side, bar) for side in _sides(config)}
        saving = _saving_seconds(state)
        clustering = sum(_kmeans_seconds(len(source), k, config, device) for k in clusters)
        clustering += _description_seconds(len(source), config, device)
        again = (
            sum(_reclustering_seconds(len(source), k, config, device) for k in clusters)
            if len(kept)
            else 0.0
        )
    step = fmean(steps[config.side_at(epoch)] for epoch in range(config.epochs))
    learning = step * state.steps
    # the last one is for the model folder
    sides = (
        [config.side_at(epoch) for epoch in range(config.warmup_epochs, config.epochs)]
        if clustered
        else []
    )
    estep = fmean(features[side] for side in [*sides, config.size]) + clustering
    calibrating = features[config.size] * len(kept) / len(source) + RECLUSTERINGS * again
    measuring = (
        features[config.size] * min(1.0, BATCHES_MEASURED / state.steps)
        if config.progressive_sizes
        else 0.0
    )
    gpu = device.type == "cuda"
    reading, unread = _left_out(state)
    # beyond what the rehearsal takes
    to_come = unread + FEATURE_COPIES * len(source) * config.dim * 4
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Estimate(
        seconds=reading
        + config.epochs * (learning + saving)
        + (len(sides) + 1) * estep
        + measuring
        + calibrating,
        learning_seconds=learning,
        step_seconds=step,
        estep_seconds=estep,
        saving_seconds=saving,
        memory_gib=(own + (0 if gpu else to_come)) / 2**30,
        gpu_memory_gib=(torch.cuda.max_memory_reserved(device) + to_come) / 2**30 if gpu else None,
        available_gib=machine_of(device).memory / 2**30,
        reading_seconds=reading,
        calibration_seconds=calibrating,
    )


def _left_out(state: Training) -> tuple[float, int]:
    """Seconds to read all images into memory, and the bytes of those that the rehearsal has left
    out.
    """
    loader, images = state.loader, len(state.source)
    if not isinstance(loader, Resident):
        return 0.0, 0
    held = len(loader.images)
    return loader.seconds * images / held, loader.images.nbytes // held * (images - held)


def _pretended(
    images: int, clusters: tuple[int, ...], dim: int, device: torch.device
) -> Expectation:
    """Prototypes of the right number anywhere: a step takes the same time with them."""
    draws = torch.Generator().manual_seed(0)
    prototypes, assignments = [], []
    for k in clusters:
        centroids = F.normalize(torch.randn(k, dim, generator=draws), dim=1).to(device)
        ones = torch.ones(k, device=device)
        prototypes.append(Prototypes(centroids, 0.2 * ones, ones.long(), ones))
        assignments.append(torch.randint(k, (images,), generator=draws).to(device))
    return Expectation(tuple(prototypes), tuple(assignments))


def _sides(config: Config) -> list[int]:
    """That views have in the course of the run, pixels."""
    return sorted({config.side_at(epoch) for epoch in range(config.epochs)})


def _step_seconds(state: Training, side: int, bar: Bar) -> float:
    """Of one step with views of this side, its wait for images included."""
    times = [time.monotonic()]
    for batch in _epochs(state, side):
        take_step(state, batch)["loss"].item()  # waits for the device
        times.append(time.monotonic())
        bar.advance(len(batch.index))
        if (
            times[-1] - times[0] > LEARNING_SECONDS / len(_sides(state.config))
            or len(times) > MOST_STEPS
        ):
            break
    warm = min(WARMING_UP, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


def _epochs(state: Training, side: int) -> Iterator[Views]:
    """Batches without end, epoch by epoch, as the loop reads them: short epochs wait for their
    first images often.
    """
    epochs = [epoch for epoch in range(state.config.epochs) if state.config.side_at(epoch) == side]
    for epoch in cycle(epochs):
        with closing(
            state.loader.views(epoch_batches(state.config, len(state.source), epoch))
        ) as views:
            yield from views


def _saving_seconds(state: Training) -> float:
    began = time.monotonic()
    state.save()
    return time.monotonic() - began


class _Enough(Exception):
    """Features of so many images have been seen that the rest can be told."""


def _feature_seconds(state: Training, side: int, bar: Bar) -> float:
    """Of the features of all images at this side."""
    began, done = time.monotonic(), 0

    def seen(images: int) -> None:
        nonlocal done
        done += images
        bar.advance(images)
        if time.monotonic() - began > FEATURE_SECONDS / len(_sides(state.config)):
            raise _Enough

    batch_size = 2 * state.config.batch_size
    with suppress(_Enough):
        all_features(
            state.pair.key, state.loader.at(side), state.device, state.dtype, batch_size, seen
        )
    return (time.monotonic() - began) / done * len(state.source)


def _kmeans_seconds(images: int, clusters: int, config: Config, device: torch.device) -> float:
    """Its work grows with points times clusters times passes; seeding is about one pass more,
    assigning another.
    """
    points = _points(min(images, POINTS), config.dim, device)
    count = len(points)
    k = min(clusters, count // 8)
    iterations = config.kmeans_iterations if count == images else 2
    began = time.monotonic()
    kmeans(points, k, iterations=iterations, backend=config.kmeans).centroids.sum().item()
    work = count * k * (iterations + 2)
    return (
        (time.monotonic() - began)
        * config.kmeans_restarts
        * images
        * clusters
        * (config.kmeans_iterations + 2)
        / work
    )


def _reclustering_seconds(
    images: int, clusters: int, config: Config, device: torch.device
) -> float:
    """Of one for the calibration, at most: it may end before its iterations do."""
    settings = dataclasses.replace(
        config, kmeans="torch", kmeans_iterations=ITERATIONS, kmeans_restarts=1
    )
    return _kmeans_seconds(bootstrap_size(images, config.dim, clusters), clusters, settings, device)


def _description_seconds(images: int, config: Config, device: torch.device) -> float:
    """Of describing the clusters, and comparing them with those of the epoch before.

    With as many clusters as the run would have, since what that takes of the memory counts too.
    """
    clusters = config.clusters or ()
    points = _points(min(images, max(POINTS, 2 * clusters[-1])), config.dim, device)
    began, coarser = time.monotonic(), None
    for k in clusters:
        assignment = torch.arange(len(points), device=device) % k
        clustering = Clustering(points[:k], assignment, (0.0,), 0)
        coarser, _ = describe_clusters(points, clustering, config.temperature, coarser)
    described = (time.monotonic() - began) * images / len(points)
    if config.objective == "infonce":
        return described
    draws = torch.Generator().manual_seed(0)
    now, before = (
        torch.randint(clusters[-1], (images,), generator=draws).to(device) for _ in range(2)
    )
    began = time.monotonic()
    nmi(now, before)
    return described + time.monotonic() - began


def _points(count: int, dim: int, device: torch.device) -> Tensor:
    """(count, dim) unit rows."""
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    return F.normalize(rows, dim=1).to(device)
