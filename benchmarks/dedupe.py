"""How long does finding near-duplicates take here, beside faiss on the same rows?

    python benchmarks/dedupe.py                      # 200,000 x 512, a quarter and half of that
    python benchmarks/dedupe.py --rows 25000 50000   # a cut, for a busy machine

The rows are made up: loose groups, and one in twenty is a copy of another with noise, at a cosine
of 0.99. Ours is what `pauc dedupe` does with the rows of a table; faiss' exact inner-product index
(IndexFlatIP) finds all pairs by range_search, from which the same copies are chosen. Each runs as a
process of its own, which makes the rows first; that is not timed, and counts towards the peak
memory of both. Where the machine is shared, seconds of processor time tell more; then give one
thread (OMP_NUM_THREADS=1), since waiting threads count. Stopped, the same command goes on.
"""

import argparse
import json
import os
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import CPU, Journal, machine, medians, result_path, watch, write_result

from pauc_hub.retrieval.duplicates import find_copies

THRESHOLD = 0.98
COPIED = 20
GROUP = 20
TOLD = ("seconds", "cpu_seconds", "peak_mib")
FAISS_TOGETHER = 4096
Floats = npt.NDArray[np.float32]


def rows(count: int, width: int) -> Floats:
    """Unit rows about one direction for 20 of them; every 20th is a copy with noise of the one
    before it.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, count // GROUP), width), dtype=np.float32) / np.float32(
        width**0.5
    )
    found = centres[rng.integers(0, len(centres), count)]
    found += rng.standard_normal((count, width), dtype=np.float32) / np.float32(width**0.5)
    copies = np.arange(COPIED, count, COPIED)
    noise = rng.standard_normal((len(copies), width), dtype=np.float32) * np.float32(
        0.2 / width**0.5
    )
    found[copies] = found[copies - 1] + noise
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def by_ours(vectors: Floats) -> npt.NDArray[np.int64]:
    everything = np.arange(len(vectors))
    return find_copies(vectors, everything, THRESHOLD, device=CPU, advance=lambda _: None).keeper


def by_faiss(vectors: Floats) -> npt.NDArray[np.int64]:
    """All pairs, then the keeper of each row: the most similar of the rows before it that are
    kept.
    """
    import faiss

    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    keeper = np.arange(len(vectors))
    for start in range(0, len(vectors), FAISS_TOGETHER):
        limits, scores, found = index.range_search(
            vectors[start : start + FAISS_TOGETHER], THRESHOLD
        )
        for i in range(len(limits) - 1):
            row, part = start + i, slice(int(limits[i]), int(limits[i + 1]))
            earlier = found[part] < row
            candidates, values = found[part][earlier], scores[part][earlier]
            kept = keeper[candidates] == candidates
            if kept.any():
                keeper[row] = candidates[kept][values[kept].argmax()]
    return keeper


FINDERS = {"pauc-hub": by_ours, "faiss-cpu": by_faiss}


def one(name: str, count: int, width: int, output: Path) -> None:
    """The process that is watched: its time, and the keepers into a file."""
    vectors = rows(count, width)
    begun, busy = time.perf_counter(), time.process_time()
    keeper = FINDERS[name](vectors)
    np.save(output, keeper)
    print(
        json.dumps(
            {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - busy}
        )
    )


def measured(name: str, count: int, width: int, output: Path) -> dict[str, float]:
    found = watch(
        sys.executable,
        __file__,
        "--one",
        name,
        "--rows",
        str(count),
        "--width",
        str(width),
        "-o",
        str(output),
    )
    return {**json.loads(found.stdout), "peak_mib": found.peak_mib}


def compare(
    count: int, width: int, repetitions: int, journal: Journal, folder: Path
) -> dict[str, Any]:
    files = {name: folder / f".{name}-{count}.npy" for name in FINDERS}
    runs = [
        {
            name: journal.once(
                f"{i}: {count:,} rows by {name}",
                partial(measured, name, count, width, files[name]),
            )
            for name in FINDERS
        }
        for i in range(1, repetitions + 1)
    ]

    def alike() -> dict[str, float]:
        ours, theirs = (np.load(file) for file in files.values())
        for file in files.values():
            file.unlink()
        return {
            "copies": int((ours != np.arange(count)).sum()),
            "same_keeper": float((ours == theirs).mean()),
        }

    times = {
        name: medians([{key: run[name][key] for key in TOLD} for run in runs]) for name in FINDERS
    }
    ours, theirs = times.values()
    return {
        "rows": count,
        "width": width,
        "rows_mib": count * width * 4 / 2**20,
        **journal.once(f"{count:,} rows: the same copies", alike),
        "times": times,
        "times_of_pauc_hub": {key: theirs[key] / ours[key] for key in ("seconds", "cpu_seconds")},
        "repetitions": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--one", choices=list(FINDERS), help=argparse.SUPPRESS)
    parser.add_argument(
        "-o", "--output", type=Path, help="benchmarks/results/dedupe-<machine>.json unless given"
    )
    given = parser.parse_args()
    if given.one:
        one(given.one, given.rows[0], given.width, given.output)
        return
    output = given.output or result_path("dedupe", CPU)
    about = machine() | {
        "threads": torch.get_num_threads(),
        "peers": {"faiss-cpu": version("faiss-cpu")},
    }
    journal = Journal(output.with_suffix(".unfinished.json"), {**about, "width": given.width})
    counts = " ".join(map(str, given.rows))
    result = {
        "question": "How long does finding near-duplicates take, beside faiss on the same rows?",
        "command": f"python benchmarks/dedupe.py --rows {counts} --width {given.width} "
        f"--repetitions {given.repetitions}",
        **about,
        "threshold": THRESHOLD,
        "results": [
            compare(count, given.width, given.repetitions, journal, output.parent)
            for count in given.rows
        ],
        "sittings": journal.sittings,
        "load_at_the_end": os.getloadavg()[0],
    }
    write_result(output, result, ("results",))
    journal.remove()


if __name__ == "__main__":
    main()
