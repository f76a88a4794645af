"""How long does a k-means iteration take here: ours in torch, faiss, scikit-learn? And on a GPU, an
ImageNet E-step?

    python benchmarks/kmeans.py                # 50,000 x 128 in 1000, 200,000 x 128 in 10,000
    python benchmarks/kmeans.py --device cuda  # 1,281,167 x 128 in 25k, 50k and 100k

On a CPU all libraries begin with the same centroids, in turn in one run, and must end with the same
objective. The time of an iteration is the difference of a long and a short run, so that what is
done once does not count; beside it stands the time of the matrix products alone, the limit for all
of them. scikit-learn takes part where it is installed. Stopped, the same command goes on where it
was.
"""

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measuring import (
    CPU,
    Journal,
    ceilings,
    machine,
    medians,
    result_path,
    seconds_of,
    write_result,
)
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.kmeans import assign_nearest, kmeans
from pauc_hub.clustering.kmeans.nearest import CHUNK_ENTRIES, tiled

WIDTH = 128
LIMIT = "products_alone"
# points, clusters, iterations of the short and the long run
SIZES = ((50_000, 1000, 2, 12), (200_000, 10_000, 1, 4))
IMAGENET, CLUSTERS, ITERATIONS = 1_281_167, (25_000, 50_000, 100_000), 20
Train = Callable[[Tensor, Tensor, int], Tensor]  # points, first centroids, iterations → centroids


def features(count: int, device: torch.device) -> Tensor:
    """(count, WIDTH) unit rows about one direction for 20 of them: as loose as features of a
    trained network.
    """
    generator = torch.Generator(device).manual_seed(0)
    centres = F.normalize(
        torch.randn(count // 20, WIDTH, generator=generator, device=device), dim=1
    )
    labels = torch.randint(len(centres), (count,), generator=generator, device=device)
    noise = torch.randn(count, WIDTH, generator=generator, device=device)
    return F.normalize(centres[labels] + noise / WIDTH**0.5, dim=1)


def by_torch(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    return kmeans(points, len(start), start=start, iterations=iterations, backend="torch").centroids


def by_faiss(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    import faiss

    trainer: Any = faiss.Kmeans(
        WIDTH, len(start), niter=iterations, max_points_per_centroid=len(points)
    )
    trainer.train(points.numpy(), init_centroids=start.numpy())
    return torch.from_numpy(trainer.centroids.copy())


def by_sklearn(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    cluster: Any = importlib.import_module("sklearn.cluster")
    found = cluster.KMeans(
        len(start), init=start.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd"
    )
    return torch.from_numpy(found.fit(points.numpy()).cluster_centers_)


def products_alone(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    """What no library of this kind can do without."""
    for _ in range(iterations):
        tiles = tiled(len(start), CPU)
        for chunk in torch.split(points, CHUNK_ENTRIES["cpu"] // tiles[0].stop):
            for tile in tiles:
                chunk @ start[tile].T
    return start


PEERS: dict[str, tuple[str, Train]] = {
    "faiss-cpu": ("faiss", by_faiss),
    "scikit-learn": ("sklearn", by_sklearn),
}


def libraries() -> dict[str, Train]:
    installed = {
        name: train for name, (module, train) in PEERS.items() if importlib.util.find_spec(module)
    }
    return {LIMIT: products_alone, "torch": by_torch} | installed


def peer_versions() -> dict[str, str]:
    return {name: version(name) for name in libraries() if name in PEERS}


def compare(
    count: int, k: int, short: int, long: int, repetitions: int, journal: Journal
) -> dict[str, Any]:
    """All libraries at one size."""
    points = features(count, CPU)
    start = points[torch.randperm(count, generator=torch.Generator().manual_seed(1))[:k]].clone()
    for train in libraries().values():
        # imports, first calls and new memory took twice the time of the first repetition
        train(points, start, 1)

    def iteration(train: Train) -> float:
        once, often = (seconds_of(partial(train, points, start, n)) for n in (short, long))
        return (often - once) / (long - short)

    def objective(train: Train) -> float:
        return assign_nearest(points, train(points, start, long))[1].double().mean().item()

    def seeding() -> float:
        return seconds_of(partial(kmeans, points, k, iterations=0, backend="torch"))

    size = f"{count:,} x {k:,}"
    runs = [
        {
            name: journal.once(f"{i}: {size}, {name}", partial(iteration, train))
            for name, train in libraries().items()
        }
        for i in range(1, repetitions + 1)
    ]
    trained = {name: train for name, train in libraries().items() if name != LIMIT}
    return {
        "points": count,
        "width": WIDTH,
        "clusters": k,
        "iterations": [short, long],
        "seconds_per_iteration": medians(runs),
        "objective_after_long_run": {
            name: journal.once(f"{size}, objective of {name}", partial(objective, train))
            for name, train in trained.items()
        },
        "seeding_seconds": journal.once(f"{size}, seeding", seeding),
        "repetitions": runs,
    }


def whole_estep(device: torch.device, repetitions: int, journal: Journal) -> list[dict[str, Any]]:
    """PCL's three clusterings of ImageNet: seeds and iterations, in float32 and with bf16
    products.
    """
    points = features(IMAGENET, device)
    kmeans(points[:1000], 10, backend="torch")  # loads the kernels

    def cluster(k: int, bf16: bool) -> dict[str, float]:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
        begun = time.monotonic()
        found = kmeans(points, k, iterations=ITERATIONS, bf16=bf16, backend="torch")
        torch.cuda.synchronize(device)
        taken, peak = time.monotonic() - begun, torch.cuda.max_memory_allocated(device) / 2**30
        return {"seconds": taken, "objective": found.objective, "peak_gib": peak}

    found = []
    for bf16, k in product((False, True), CLUSTERS):
        name = f"{k:,} clusters in {'bf16' if bf16 else 'fp32'}"
        runs = [
            journal.once(f"{i}: {name}", partial(cluster, k, bf16))
            for i in range(1, repetitions + 1)
        ]
        size = {
            "points": IMAGENET,
            "width": WIDTH,
            "clusters": k,
            "iterations": ITERATIONS,
            "bf16": bf16,
        }
        same = len({run["objective"] for run in runs}) == 1
        found.append(size | medians(runs) | {"repeats_itself": same, "repetitions": runs})
    return found


def measure(device: torch.device, repetitions: int, journal: Journal) -> list[dict[str, Any]]:
    if device.type == "cpu":
        return [compare(*size, repetitions, journal) for size in SIZES]
    return whole_estep(device, repetitions, journal)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "-o", "--output", type=Path, help="benchmarks/results/kmeans-<machine>.json unless given"
    )
    arguments = parser.parse_args()
    device, repetitions = torch.device(arguments.device), arguments.repetitions
    output = arguments.output or result_path("kmeans", device)
    about = machine(device) | {
        "threads": torch.get_num_threads(),
        "peers": peer_versions() if device == CPU else {},
    }
    journal = Journal(output.with_suffix(".unfinished.json"), about)
    result = {
        "question": "How long does a k-means iteration take, and an ImageNet E-step on a GPU?",
        "command": (
            f"python benchmarks/kmeans.py --device {device.type} --repetitions {repetitions}"
        ),
        **about,
        "ceilings": journal.once("ceilings", partial(ceilings, device)),
        "results": measure(device, repetitions, journal),
        "sittings": journal.sittings,
    }
    write_result(output, result, ("results",))
    journal.remove()


if __name__ == "__main__":
    main()
