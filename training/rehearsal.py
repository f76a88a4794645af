"""A minute of training that leaves nothing, to tell what a run would take. N images, D projection width."""

import resource
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from pauc_hub.embed import default_workers
from pauc_hub.folder import Prototypes
from pauc_hub.kmeans import kmeans
from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource
from pauc_hub.training.estep import Expectation, all_features
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.mstep import learn
from pauc_hub.training.state import Training, new_training

SECONDS = {"learning": 25.0, "features": 12.0}
POINTS = 1 << 14  # that k-means is tried on


@dataclass(frozen=True)
class Estimate:
    """What a run would take here, if the machine stays as busy as it is."""

    step_seconds: float
    mstep_seconds: float
    """Of an epoch."""
    estep_seconds: float
    seconds: float
    """Of the whole run."""
    memory_gib: float
    """Of this process at its peak."""
    gpu_memory_gib: float | None


def rehearse(source: ImageSource, config: Config, device: torch.device, workers: int | None) -> Estimate:
    """Take a few steps, embed a few batches, cluster a few points; then multiply.

    Args:
        config: resolved.
    """
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        state = new_training(Path(folder), config, source, device, workers or default_workers(), stop, quiet=True)
        clusters = config.clusters or ()
        if config.objective != "infonce":
            state.expectation = _pretended(len(source), clusters, config.dim, device)
        step = _step_seconds(state)
        estep = _feature_seconds(state) + sum(_kmeans_seconds(len(source), count, config, device) for count in clusters)
    esteps = 1 + (0 if config.objective == "infonce" else max(0, config.epochs - config.warmup_epochs))
    mstep = step * (len(source) // config.batch_size)
    rows = len(source) * config.dim * 4 * 2  # the features, twice for a moment
    on_gpu = device.type == "cuda"
    return Estimate(
        step_seconds=step,
        mstep_seconds=mstep,
        estep_seconds=estep,
        seconds=config.epochs * mstep + esteps * estep,
        memory_gib=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (0 if on_gpu else rows)) / 2**30,
        gpu_memory_gib=(torch.cuda.max_memory_allocated(device) + rows) / 2**30 if on_gpu else None,
    )


def _pretended(images: int, clusters: tuple[int, ...], dim: int, device: torch.device) -> Expectation:
    """Prototypes of the right number anywhere: a step takes the same time with them."""
    draws = torch.Generator().manual_seed(0)
    prototypes, assignments = [], []
    for count in clusters:
        centroids = F.normalize(torch.randn(count, dim, generator=draws), dim=1).to(device)
        ones = torch.ones(count, device=device)
        prototypes.append(Prototypes(centroids, 0.2 * ones, ones.long(), ones))
        assignments.append(torch.randint(count, (images,), generator=draws).to(device))
    return Expectation(tuple(prototypes), tuple(assignments))


def _step_seconds(state: Training) -> float:
    """Of one step, its wait for images included; the first two are warming up."""
    config = state.config
    order = torch.randperm(len(state.source), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[i * config.batch_size : (i + 1) * config.batch_size] for i in range(state.steps)] * 8
    times = [time.monotonic()]
    with closing(state.loader.views(batches, config.crop_min, config.seed, 0)) as views:
        for batch in views:
            learn(state, batch)["loss"].item()  # waits for the device
            times.append(time.monotonic())
            if times[-1] - times[0] > SECONDS["learning"]:
                break
    warm = min(2, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


def _feature_seconds(state: Training) -> float:
    """Of the features of all images."""
    began, done = time.monotonic(), 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        if time.monotonic() - began > SECONDS["features"]:
            raise StopIteration

    with suppress(StopIteration):
        all_features(state.pair.key, state.loader, state.device, state.dtype, 2 * state.config.batch_size, seen)
    return (time.monotonic() - began) / done * len(state.source)


def _kmeans_seconds(images: int, clusters: int, config: Config, device: torch.device) -> float:
    """Its work grows with points times clusters."""
    points = F.normalize(
        torch.randn(min(images, POINTS), config.dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    tried = min(clusters, len(points) // 8)
    began = time.monotonic()
    kmeans(points.to(device), tried, iterations=2, restarts=1, seed=0, backend=config.kmeans)
    share = (len(points) * tried * 2) / (images * clusters * config.kmeans_iterations)
    return (time.monotonic() - began) / share * config.kmeans_restarts
