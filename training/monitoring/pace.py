"""Where a run's time goes: it may wait for images, or cluster more than it learns."""

from statistics import fmean

from pauc_hub.training.monitoring.curves import TIME
from pauc_hub.training.monitoring.finding import RECENT, Finding
from pauc_hub.training.monitoring.history import History

# seconds: shorter epochs wait for their first batch, and say nothing about a steady flow
BRIEF = 10.0
WAITING = 0.25  # share of learning: a quarter of the device's time is lost
CLUSTERING = 0.4  # share of the epoch: features alone take about 0.2, as a pass without gradients


def starved(run: History) -> Finding | None:
    """The device waits for images."""
    waits = steady(run, "data_wait", "mstep_seconds")
    if len(waits) < RECENT or fmean(waits) < WAITING:
        return None
    speed = fmean(run.recent("images_per_second", RECENT))
    return Finding(
        "starved",
        "learning waits for images, which are read and decoded too slowly",
        (
            f"data_wait {fmean(waits):.0%} of learning over the last {RECENT} epochs, at "
            f"{speed:.0f} images/s"
        ),
        TIME,
        "resume with more threads that decode (workers; one a core unless given); else keep "
        "the images on a local "
        f"disk, or shrink them once to about {2 * run.config.size} pixels",
    )


def burdened(run: History) -> Finding | None:
    """The E-step takes too large a part of the time."""
    shares = steady(run, "estep_share", "estep_seconds")
    if len(shares) < RECENT or fmean(shares) < CLUSTERING:
        return None
    config, seconds = run.config, fmean(run.recent("estep_seconds", RECENT))
    return Finding(
        "burdened",
        "the E-step takes too much of the time",
        f"estep_share {fmean(shares):.0%} over the last {RECENT} epochs, {seconds:.0f} s each",
        TIME,
        f"start anew with kmeans_iterations={max(5, config.kmeans_iterations // 2)} (now "
        f"{config.kmeans_iterations}), "
        f"kmeans_restarts=1 (now {config.kmeans_restarts}), or fewer clusters; faiss is quicker "
        "on a CPU",
    )


def steady(run: History, name: str, seconds: str) -> list[float]:
    """The share of the last epochs, none where these were brief; the first epoch warms caches up,
    and is left out.
    """
    lines = [line for line in run.epochs[1:] if name in line and seconds in line][-RECENT:]
    return [line[name] for line in lines if line[seconds] >= BRIEF]
