"""How long does a k-means iteration take here: ours in torch, faiss, scikit-learn? And on a GPU, an ImageNet E-step?

    python benchmarks/kmeans.py                  # 50,000 x 128 in 1000 clusters, and 200,000 x 128 in 10,000
    python benchmarks/kmeans.py --device cuda    # 1,281,167 x 128 in 25k, 50k and 100k clusters, 20 iterations

On a CPU all libraries begin with the same centroids, in turn in one run, and must end with the same objective. The time
of an iteration is the difference of a long and a short run, so that what is done once does not count; beside it stands
the time of the matrix products alone, the limit for all of them. scikit-learn takes part where it is installed.
"""

import argparse
import importlib
import importlib.util
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.kmeans import assign, kmeans
from pauc_hub.kmeans.nearest import CHUNK_ENTRIES
from pauc_hub.training import receipts

RESULTS = Path(__file__).resolve().parent / "results"
WIDTH = 128
SIZES = ((50_000, 1000, 2, 12), (200_000, 10_000, 1, 4))  # points, clusters, iterations of the short and the long run
IMAGENET, CLUSTERS, ITERATIONS = 1_281_167, (25_000, 50_000, 100_000), 20
Train = Callable[[Tensor, Tensor, int], Tensor]  # points, first centroids, iterations → centroids


def features(count: int, device: torch.device) -> Tensor:
    """(count, WIDTH) unit rows about one direction for 20 of them: as loose as features of a trained network."""
    generator = torch.Generator(device).manual_seed(0)
    centres = F.normalize(torch.randn(count // 20, WIDTH, generator=generator, device=device), dim=1)
    labels = torch.randint(len(centres), (count,), generator=generator, device=device)
    noise = torch.randn(count, WIDTH, generator=generator, device=device)
    return F.normalize(centres[labels] + noise / WIDTH**0.5, dim=1)


def by_torch(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    return kmeans(points, len(start), start=start, iterations=iterations, backend="torch").centroids


def by_faiss(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    import faiss

    trainer: Any = faiss.Kmeans(WIDTH, len(start), niter=iterations, max_points_per_centroid=len(points))
    trainer.train(points.numpy(), init_centroids=start.numpy())
    return torch.from_numpy(trainer.centroids.copy())


def by_sklearn(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    cluster: Any = importlib.import_module("sklearn.cluster")
    found = cluster.KMeans(len(start), init=start.numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    return torch.from_numpy(found.fit(points.numpy()).cluster_centers_)


def products_alone(points: Tensor, start: Tensor, iterations: int) -> Tensor:
    """What no library of this kind can do without."""
    for _ in range(iterations):
        for chunk in torch.split(points, CHUNK_ENTRIES["cpu"] // len(start)):
            chunk @ start.T
    return start


PEERS: dict[str, tuple[str, Train]] = {"faiss-cpu": ("faiss", by_faiss), "scikit-learn": ("sklearn", by_sklearn)}


def libraries() -> dict[str, Train]:
    installed = {name: train for name, (module, train) in PEERS.items() if importlib.util.find_spec(module)}
    return {"products_alone": products_alone, "torch": by_torch} | installed


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(count: int, k: int, short: int, long: int, repetitions: int) -> dict[str, Any]:
    """All libraries at one size."""
    points = features(count, torch.device("cpu"))
    start = points[torch.randperm(count, generator=torch.Generator().manual_seed(1))[:k]].clone()
    for train in libraries().values():
        train(points[:2000], start[:10], 1)  # imports and first calls
    runs: list[dict[str, float]] = []
    for i in range(repetitions):
        runs.append({})
        for name, train in libraries().items():
            once, often = (seconds(lambda: train(points, start, n)) for n in (short, long))  # noqa: B023
            runs[-1][name] = (often - once) / (long - short)
            print(f"{count:,} x {k:,}, {i + 1} of {repetitions}: {name} {runs[-1][name]:.3f} s", file=sys.stderr)
    trained = [name for name in libraries() if name != "products_alone"]
    return {
        "points": count,
        "width": WIDTH,
        "clusters": k,
        "iterations": [short, long],
        "seconds_per_iteration": {name: statistics.median(run[name] for run in runs) for name in runs[0]},
        "objective_after_long_run": {
            name: assign(points, libraries()[name](points, start, long))[1].double().mean().item() for name in trained
        },
        "seeding_seconds": seconds(lambda: kmeans(points, k, iterations=0, backend="torch")),
        "repetitions": runs,
    }


def whole_estep(device: torch.device, repetitions: int) -> list[dict[str, Any]]:
    """PCL's three clusterings of ImageNet: seeds and iterations, in float32 and with bf16 products."""
    points = features(IMAGENET, device)
    kmeans(points[:1000], 10, backend="torch")  # loads the kernels
    found = []
    for bf16 in (False, True):
        for k in CLUSTERS:
            torch.cuda.reset_peak_memory_stats(device)
            taken, objectives = [], []
            for _ in range(repetitions):
                torch.cuda.synchronize(device)
                begun = time.perf_counter()
                objectives.append(kmeans(points, k, iterations=ITERATIONS, bf16=bf16, backend="torch").objective)
                torch.cuda.synchronize(device)
                taken.append(time.perf_counter() - begun)
            found.append(
                {
                    "points": IMAGENET,
                    "width": WIDTH,
                    "clusters": k,
                    "iterations": ITERATIONS,
                    "bf16": bf16,
                    "seconds": statistics.median(taken),
                    "objective": objectives[0],
                    "repeats_itself": len(set(objectives)) == 1,
                    "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30,
                    "repetitions": taken,
                }
            )
            print(f"{k:,} clusters, bf16 {bf16}: {found[-1]['seconds']:.2f} s", file=sys.stderr)
    return found


def rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 5)
        case dict():
            return {key: rounded(part) for key, part in value.items()}
        case list():
            return [rounded(part) for part in value]
    return value


def measure(device: torch.device, repetitions: int) -> dict[str, Any]:
    on_cpu = device.type == "cpu"
    return {
        "question": "How long does a k-means iteration take, and an ImageNet E-step on a GPU?",
        "command": f"python benchmarks/kmeans.py --device {device.type} --repetitions {repetitions}",
        "threads": torch.get_num_threads(),
        "results": [compare(*size, repetitions) for size in SIZES] if on_cpu else whole_estep(device, repetitions),
        "hardware": receipts.hardware(device),
        "versions": receipts.versions() | {name: version(name) for name in libraries() if on_cpu and name in PEERS},
        "commit": receipts.commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/kmeans-<machine>.json unless given")
    arguments = parser.parse_args()
    result = rounded(measure(torch.device(arguments.device), arguments.repetitions))
    machine = re.sub(r"[^a-z0-9]+", "-", f"{result['hardware']['name']} {result['hardware']['cores']}".lower())
    output = arguments.output or RESULTS / f"kmeans-{machine}.json"
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["results"], indent=2))
    print(f"written to {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
