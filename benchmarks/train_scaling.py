"""Does training grow in proportion to the number of images, and what do its parts take?

    python benchmarks/train_scaling.py

Small images are made, as for embed_scaling.py. Of each number of them a process of its own goes
through what `pauc train` does: it lists them, learns from some batches, embeds all for an E-step,
and clusters them; the peak of its memory is watched. An epoch's M-step takes a step for each batch,
so that a few tell all: what has to stay the same is a step's time. The numbers of clusters are
fixed: those chosen by default grow with the images, and k-means with the product of both. A
ResNet-18 at 32 pixels. Stopped, the same command goes on where it was.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from embed_scaling import fit, make_images
from measuring import Journal, machine, medians, result_path, seconds_of, watch, write_result
from network_alone import network_alone

from pauc_hub.device import keep_freed_memory
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.data.resident import Resident
from pauc_hub.training.data.views import epoch_batches
from pauc_hub.training.estep import all_features, expect
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.state import Training, new_training, take_step

ARCHITECTURE, CLUSTERS, BATCH, WARMING_UP = "resnet18", (250, 500, 1000), 256, 2
PARTS = ("listing", "preparing", "features", "kmeans")
QUESTION = "Does training grow in proportion to the number of images?"


def one_run(folder: Path, device: torch.device, steps: int) -> dict[str, float]:
    """Everything once, in this process: seconds of the parts and of a step, and MiB of images that
    are held.
    """
    config = Config(architecture=ARCHITECTURE, size=32, batch_size=BATCH, clusters=CLUSTERS)
    times = [time.monotonic()]
    with tempfile.TemporaryDirectory() as name:
        source = open_by_index(folder)
        config = config.resolve(len(source))
        times.append(time.monotonic())
        state = new_training(
            Path(name), config, source, device, os.cpu_count() or 1, StopRequest(), quiet=True
        )
        times.append(time.monotonic())
        step = step_seconds(state, steps)
        learnt = time.monotonic()
        features, readable = all_features(
            state.pair.key, state.loader, device, state.dtype, 2 * BATCH, lambda _: None
        )
        embedded = until_done()
        expect(features, readable, config, 0)
    held = state.loader.images.nbytes if isinstance(state.loader, Resident) else 0
    listing, preparing = (later - earlier for earlier, later in pairwise(times))
    return {
        "listing": listing,
        "preparing": preparing,
        "step": step,
        "features": embedded - learnt,
        "kmeans": until_done() - embedded,
        "held_mib": held / 2**20,
    }


def until_done() -> float:
    """The time when the GPU, if there is one, has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def step_seconds(state: Training, steps: int) -> float:
    """Of one, its wait for images included; the first few do not count."""
    views = state.loader.views(
        islice(epoch_batches(state.config, len(state.source), 0), WARMING_UP + steps)
    )
    for batch in islice(views, WARMING_UP):
        take_step(state, batch)
    return seconds_of(lambda: [take_step(state, batch) for batch in views]) / steps


def in_process(folder: Path, count: int, given: argparse.Namespace) -> dict[str, float]:
    took = watch(
        sys.executable,
        __file__,
        "--one",
        str(folder),
        "--device",
        given.device,
        "--steps",
        str(given.steps),
    )
    told: dict[str, float] = json.loads(took.stdout)
    return told | {"epoch_seconds": told["step"] * (count // BATCH), "peak_mib": took.peak_mib}


def measure(given: argparse.Namespace, journal: Journal) -> dict[str, Any]:
    """Every repetition of every number of images."""
    runs: dict[str, Any] = {"network alone": [], "counts": {count: [] for count in given.counts}}
    alone = partial(network_alone, ARCHITECTURE, BATCH, torch.device(given.device))
    with tempfile.TemporaryDirectory() as name:
        folders = {count: make_images(Path(name) / str(count), count) for count in given.counts}
        for i in range(1, given.repetitions + 1):
            runs["network alone"].append(journal.once(f"{i}: network alone", alone))
            for count, found in runs["counts"].items():
                once = partial(in_process, folders[count], count, given)
                found.append(journal.once(f"{i}: {count} images", once))
    return runs


def growth(counts: dict[int, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Least squares through every repetition: seconds, the peak of the memory and images held,
    against their number.
    """
    points = [(count, run) for count, runs in counts.items() for run in runs]
    numbers = [float(count) for count, _ in points]
    found = {}
    for name in (*PARTS, "step", "peak_mib", "held_mib"):
        line = fit(numbers, [run[name] for _, run in points])
        found[name] = {
            "per_100000_images": 1e5 * line.slope,
            "to_start": line.intercept,
            "residual": line.residual,
        }
    return found


def summarise(runs: dict[str, Any]) -> dict[str, Any]:
    """Medians, lines, and how near the network's parts come to the network alone, with most
    images.
    """
    found = {count: medians(each) for count, each in runs["counts"].items()}
    most, alone = max(found), medians(runs["network alone"])
    one_sided = 2 * alone["images_per_second"]  # it has both sides of a symmetric step
    return {
        "growth": growth(runs["counts"]),
        "medians": {"network alone": alone, "counts": found},
        "how far from the limit": {
            "step_share_of_network_alone": BATCH / found[most]["step"] / one_sided,
            "features_share_of_forward_alone": most
            / found[most]["features"]
            / alone["forward_images_per_second"],
        },
    }


LIMITS = {
    "listing": "calls to the system, and strings made of names",
    "preparing": "the decoders, where the images are held in memory; else next to nothing",
    "features": "the network's forward pass, and the decoders where images are not held in memory",
    "kmeans": "products of all images with all prototypes",
    "step": "the network, forward and backward",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=8, help="that are timed")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/… unless given")
    # what the script asks of its processes
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        keep_freed_memory()
        print(json.dumps(one_run(given.one, torch.device(given.device), given.steps)))
        return
    if len(set(given.counts)) < 2:
        parser.error("a line needs two different --counts")
    if min(given.counts) < (least := max(BATCH * (WARMING_UP + given.steps), 10 * CLUSTERS[-1])):
        parser.error(
            f"--counts must be {least} or more: for {given.steps} --steps, and {CLUSTERS[-1]} "
            "clusters"
        )
    report(given)


def report(given: argparse.Namespace) -> None:
    """Measure, and write down."""
    device = torch.device(given.device)
    output = given.output or result_path("train-scaling", device)
    settings = {
        "images": "JPEGs of 64 x 64 as in embed_scaling.py",
        "model": f"{ARCHITECTURE} at 32 pixels, objective pauc before its first E-step",
        "batch_size": BATCH,
        "clusters": CLUSTERS,
        "counts": given.counts,
        "steps": given.steps,
    }
    journal = Journal(
        output.with_suffix(".unfinished.json"), about := {"settings": settings, **machine(device)}
    )
    runs = measure(given, journal)
    words = (
        f"--counts {' '.join(map(str, given.counts))} --device {given.device} --steps {given.steps}"
    )
    result = {
        "question": QUESTION,
        "command": f"python benchmarks/train_scaling.py {words} --repetitions {given.repetitions}",
        **about,
        **summarise(runs),
        "limits": LIMITS,
        "sittings": journal.sittings,
        "repetitions": runs,
    }
    write_result(output, result, ("growth", "medians", "how far from the limit"))
    journal.remove()


if __name__ == "__main__":
    main()
