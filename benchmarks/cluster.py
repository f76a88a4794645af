"""How long do clustering and assignment take here, beside scikit-learn and faiss on the same rows?

    python benchmarks/cluster.py                                # 200,000 x 512 in 1000 prototypes
    python benchmarks/cluster.py --repetitions 1 --growth 500000 1000000

All cluster the same unit rows from seeds of their own choice, with at most 20 iterations, and must
end with about the same objective, the mean squared distance of a row to the mean of its cluster.
`pauc cluster` beside them is the whole verb: reading the table, k-means, the hierarchy, 20
reclusterings, calibration, and all files; --growth runs it, and no peer, on more rows. Assigning is
to fixed centroids, the nearest and the second. Where the machine is shared, seconds of processor
time tell more; then give one thread (OMP_NUM_THREADS=1), since waiting threads count. Stopped, the
same command goes on where it was.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from measuring import CPU, Journal, machine, medians, result_path, watch, write_result
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.assignment import assign_points
from pauc_hub.clustering.kmeans import assign_nearest, cluster_means, kmeans, squared_gaps
from pauc_hub.clustering.prototype_set import PrototypeSet, unnamed
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.origin import Origin
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

ITERATIONS = 20
ROWS_TOGETHER = 8192
PEERS = ("scikit-learn", "faiss-cpu")
ABOUT = Provenance("made up", "00" * 32, "backbone", {}, "fp32", "/nowhere", "0")
Cluster = Callable[[Tensor, int], Tensor]  # unit rows, K → centroids
Assign = Callable[[Tensor, Tensor], object]  # unit rows, unit centroids


def features(count: int, width: int) -> Tensor:
    """(count, width) unit rows about one direction for 20 of them: as loose as features of a
    trained network.
    """
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(max(1, count // 20), width, generator=generator), dim=1)
    labels = torch.randint(len(centres), (count,), generator=generator)
    rows = torch.empty(count, width)
    for start in range(0, count, ROWS_TOGETHER):
        part = slice(start, min(start + ROWS_TOGETHER, count))
        noise = torch.randn(part.stop - start, width, generator=generator) / width**0.5
        rows[part] = F.normalize(centres[labels[part]] + noise, dim=1)
    return rows


def by_ours(rows: Tensor, k: int) -> Tensor:
    return kmeans(rows, k, iterations=ITERATIONS, spherical=True, backend="torch").centroids


def by_sklearn(rows: Tensor, k: int) -> Tensor:
    found = KMeans(k, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd", random_state=0).fit(
        rows.numpy()
    )
    return torch.from_numpy(found.cluster_centers_)


def by_faiss(rows: Tensor, k: int) -> Tensor:
    trainer: Any = faiss.Kmeans(
        rows.shape[1], k, niter=ITERATIONS, max_points_per_centroid=len(rows), seed=0
    )
    trainer.train(rows.numpy())
    return torch.from_numpy(trainer.centroids.copy())


def assign_by_ours(rows: Tensor, centroids: Tensor) -> None:
    k = len(centroids)
    level = Prototypes(centroids, torch.ones(k), torch.ones(k, dtype=torch.int64), torch.ones(k))
    prototypes = PrototypeSet((level,), Origin("00", "backbone", {}), True, unnamed((level,)))
    for part in torch.split(rows, ROWS_TOGETHER):
        assign_points(part, prototypes)


def assign_by_faiss(rows: Tensor, centroids: Tensor) -> object:
    index: Any = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids.numpy())
    return index.search(rows.numpy(), 2)


def assign_by_sklearn(rows: Tensor, centroids: Tensor) -> object:
    """The nearest alone: it has no second."""
    model = KMeans(len(centroids), n_init=1, max_iter=1, init=centroids.numpy()).fit(
        centroids.numpy()
    )
    return model.predict(rows.numpy())


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What it returns, and what it took."""
    begun, busy = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - busy,
    }


CLUSTERERS: dict[str, Cluster] = {
    "ours": by_ours,
    "scikit-learn": by_sklearn,
    "faiss-cpu": by_faiss,
}
ASSIGNERS: dict[str, Assign] = {
    "ours": assign_by_ours,
    "scikit-learn": assign_by_sklearn,
    "faiss-cpu": assign_by_faiss,
}


def whole_verb(rows: Tensor, k: int) -> dict[str, float]:
    """`pauc cluster` on a table of the rows, as a process."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.npy"
        with open_output(table, rows.shape[1], len(rows), ABOUT) as output:
            for start in range(0, len(rows), ROWS_TOGETHER):
                part = rows[start : start + ROWS_TOGETHER].numpy()
                names = [f"{row:09}" for row in range(start, start + len(part))]
                output.write(names, part, np.ones((len(part), 2), np.int32))
        granularities = f"{max(1, k // 16)},{max(1, k // 4)},{k}"
        found = watch(
            sys.executable,
            "-m",
            "pauc_hub.cli",
            "cluster",
            str(table),
            "-k",
            granularities,
            "--json",
        )
        times = {"seconds": found.seconds, "cpu_seconds": found.cpu_seconds}
        return times | {"peak_mib": found.peak_mib, "table_mib": rows.nbytes / 2**20}


def compare(count: int, width: int, k: int, repetitions: int, journal: Journal) -> dict[str, Any]:
    rows = features(count, width)
    centroids = by_ours(rows[: 20 * k], k)

    def clustering(cluster: Cluster) -> dict[str, float]:
        found, times = timed(partial(cluster, rows, k))
        nearest, _ = assign_nearest(rows, found)
        means, _ = cluster_means(rows, nearest, k)
        return times | {"objective": squared_gaps(rows, means, nearest).double().mean().item()}

    def assigning(assigner: Assign) -> dict[str, float]:
        return timed(partial(assigner, rows, centroids))[1]

    def once(
        what: str, i: int, run: dict[str, Any], measure: Callable[[Any], dict[str, float]]
    ) -> dict[str, Any]:
        return {
            name: journal.once(f"{i}: {what} by {name}", partial(measure, work))
            for name, work in run.items()
        }

    clustered = [once("clustering", i, CLUSTERERS, clustering) for i in range(1, repetitions + 1)]
    assigned = [once("assigning", i, ASSIGNERS, assigning) for i in range(1, repetitions + 1)]
    return {
        "rows": count,
        "width": width,
        "prototypes": k,
        "times_of_kmeans": {name: medians([run[name] for run in clustered]) for name in CLUSTERERS},
        "objective": {name: run["objective"] for name, run in clustered[0].items()},
        "times_of_assigning": {
            name: medians([run[name] for run in assigned]) for name in ASSIGNERS
        },
        "pauc_cluster": journal.once("pauc cluster", partial(whole_verb, rows, k)),
        "repetitions": {"kmeans": clustered, "assigning": assigned},
    }


def growth(given: argparse.Namespace, journal: Journal) -> list[dict[str, float]]:
    """What `pauc cluster` takes with each of these numbers of rows."""

    def measure(count: int) -> dict[str, float]:
        return whole_verb(features(count, given.width), given.k)

    return [
        {"rows": count} | journal.once(f"pauc cluster, {count:,} rows", partial(measure, count))
        for count in given.growth
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("-k", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[], help="more numbers of rows for `pauc cluster`"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="benchmarks/results/cluster-<machine>.json unless given"
    )
    given = parser.parse_args()
    output = given.output or result_path("cluster", CPU)
    size = (given.rows, given.width, given.k, given.repetitions)
    about = machine() | {
        "threads": torch.get_num_threads(),
        "peers": {name: version(name) for name in PEERS},
    }
    journal = Journal(output.with_suffix(".unfinished.json"), {**about, "size": size})
    result = {
        "question": (
            "How long do clustering and assignment take, beside scikit-learn and faiss on the "
            "same rows?"
        ),
        "command": f"python benchmarks/cluster.py --rows {given.rows} --width {given.width} -k "
        f"{given.k} --repetitions {given.repetitions}"
        + (f" --growth {' '.join(map(str, given.growth))}" if given.growth else ""),
        **about,
        "results": compare(*size, journal) | {"growth": growth(given, journal)},
        "sittings": journal.sittings,
    }
    write_result(output, result, ("results",))
    journal.remove()


if __name__ == "__main__":
    main()
