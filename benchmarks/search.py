"""How long does a search take, how much does an index shorten it, and how much of the truth does
the index find?

    python benchmarks/search.py                          # a million made-up embeddings
    python benchmarks/search.py --table photos.parquet   # those of a table, of which a copy is made

Rows of the table are the queries, each without itself. Made-up embeddings lie about 2000 centres in
a space of 32 dimensions, which a random layer of ReLUs and a little noise widen: nearest neighbours
have cosines of about 0.8.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pauc_hub.retrieval import faiss_index, neighbors
from pauc_hub.retrieval.lookup import read_paths, read_vectors
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.stored import open_table
from pauc_hub.tables.table import Provenance
from pauc_hub.training.run import receipts

RESULTS = Path(__file__).resolve().parent / "results"
CENTRES, LATENT, SPREAD, NOISE = 2000, 32, 0.7, 0.3
TOGETHER = 50_000  # rows made at a time
QUERIES = 200  # that recall is measured with
INDEXED_SEARCH = (
    "from pauc_hub.retrieval import neighbors; neighbors.INDEX_ROWS = 0; import pauc_hub.cli "
    "as c; c.main()"
)


def made_up(rows: int, width: int) -> Iterator[npt.NDArray[np.float32]]:
    draws = np.random.default_rng(0)
    centres = draws.standard_normal((CENTRES, LATENT), dtype=np.float32)
    layer = draws.standard_normal((LATENT, width), dtype=np.float32)
    for start in range(0, rows, TOGETHER):
        count = min(TOGETHER, rows - start)
        latent = centres[draws.integers(0, CENTRES, count)]
        latent += SPREAD * draws.standard_normal((count, LATENT), dtype=np.float32)
        noise = NOISE * draws.standard_normal((count, width), dtype=np.float32)
        yield np.maximum(latent @ layer, 0) + noise


def write_made_up(path: Path, rows: int, width: int) -> None:
    about = Provenance("made-up", "0" * 64, "backbone", {}, "fp32", "nowhere", "0")
    with open_output(path, width, rows, about) as table:
        for part, embeddings in enumerate(made_up(rows, width)):
            names = [f"{part:05d}/{i:06d}.jpg" for i in range(len(embeddings))]
            table.write(names, embeddings, np.full((len(names), 2), 224, np.int32))


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock, and of processors, which a busy machine changes less; those of child
    processes count.
    """
    started, before = time.monotonic(), sum(os.times()[:4])
    work()
    return {"seconds": time.monotonic() - started, "cpu_seconds": sum(os.times()[:4]) - before}


def run_process(words: list[str], *command: str) -> None:
    """A whole `pauc search`, from start to exit."""
    subprocess.run([sys.executable, *command, *words], stdout=subprocess.DEVNULL, check=True)


def recall(table: Path, picked: list[int], k: int) -> float:
    """Of the k truly nearest, the share among the k that the index gives."""
    queries, own = read_vectors(open_table(table), picked), [*picked]
    truth = neighbors.find_neighbors(table, queries, k, left_out=own, exact=True, quiet=True)
    found = neighbors.find_neighbors(table, queries, k, left_out=own, quiet=True)
    assert (truth.method, found.method) == ("exact", "index")
    both = zip(truth.neighbors, found.neighbors, strict=True)
    return statistics.mean(len(set(a.rows.tolist()) & set(b.rows.tolist())) / k for a, b in both)


def repetition(table: Path, picked: list[int]) -> dict[str, float]:
    """Everything once, when the index is there."""
    stored = open_table(table)
    queries = read_vectors(stored, picked)
    words = ["search", read_paths(stored, picked[:1])[0], "--in", str(table)]

    def search(count: int, exact: bool) -> None:
        neighbors.find_neighbors(table, queries[:count], 10, exact=exact, quiet=True)

    work: dict[str, Callable[[], None]] = {
        "exact_1_query": lambda: search(1, exact=True),
        "exact_100_queries": lambda: search(100, exact=True),
        "index_1_query": lambda: search(1, exact=False),
        "index_100_queries": lambda: search(100, exact=False),
        "exact_whole_process": lambda: run_process([*words, "--exact"], "-m", "pauc_hub.cli"),
        "index_whole_process": lambda: run_process(words, "-c", INDEXED_SEARCH),
    }
    return {
        f"{what}_{kind}": value
        for what, each in work.items()
        for kind, value in timed(each).items()
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    neighbors.INDEX_ROWS = 0  # so that small tables get an index too
    with tempfile.TemporaryDirectory() as room:
        table = Path(room) / "table.parquet"
        if arguments.table:
            shutil.copyfile(arguments.table, table)
        else:
            write_made_up(table, arguments.rows, arguments.width)
        stored = open_table(table)
        picked = np.random.default_rng(1).choice(stored.rows, QUERIES, replace=False).tolist()
        building = timed(
            lambda: neighbors.find_neighbors(table, read_vectors(stored, [0]), 1, quiet=True)
        )
        building = {f"building_{kind}": value for kind, value in building.items()}
        runs = [repetition(table, picked) for _ in range(arguments.repetitions)]
        found = {
            f"recall_at_{k}": recall(table, picked, k) for k in (10, faiss_index.MOST_NEIGHBORS)
        }
        sizes = {
            "table_mib": table.stat().st_size,
            "index_mib": faiss_index.index_path(table).stat().st_size,
        }
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return {
        "question": "How long does a search take, exact and by an index, and what does the index "
        "find?",
        "command": command(arguments),
        "settings": {
            "embeddings": "given" if arguments.table else "made up",
            "rows": stored.rows,
            "width": stored.width,
            "lists": faiss_index.list_count(stored.rows),
            "probes": faiss_index.PROBES,
            "cores": len(os.sched_getaffinity(0)),
        },
        "medians": building | medians | found | {key: n / 2**20 for key, n in sizes.items()},
        "repetitions": runs,
        "hardware": receipts.hardware(torch.device("cpu")),
        "versions": receipts.versions(),
        "commit": receipts.commit(),
    }


def command(arguments: argparse.Namespace) -> str:
    """How to do this again; where the table lies is nobody's business."""
    what = (
        "--table TABLE" if arguments.table else f"--rows {arguments.rows} --width {arguments.width}"
    )
    return f"python benchmarks/search.py {what} --repetitions {arguments.repetitions}"


def rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {key: rounded(part) for key, part in value.items()}
        case list():
            return [rounded(part) for part in value]
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="a table in Parquet that `pauc embed` wrote")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made-up embeddings")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="benchmarks/results/search-<what>-<machine>.json unless given",
    )
    arguments = parser.parse_args()
    result = rounded(measure(arguments))
    machine = re.sub(
        r"[^a-z0-9]+", "-", f"{result['hardware']['name']} {result['hardware']['cores']}".lower()
    )
    what = f"{result['settings']['embeddings'].replace(' ', '-')}-{result['settings']['rows']}"
    output = arguments.output or RESULTS / f"search-{what}-{machine}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["medians"], indent=2))
    print(f"written to {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
