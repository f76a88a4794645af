"""Does embedding grow in proportion to the number of images, in memory not at all, and what do its
parts take?

    python benchmarks/embed_scaling.py

Small images are made: some thousands of different JPEGs of 64 pixels, and hard links to them until
there are enough, in folders of a thousand. Listing, reading (decoding and resizing) and writing are
each timed alone, of the middle number; of all numbers, `pauc embed` as a whole process: a ResNet-18
of random weights at 32 pixels, so small that the rest shows. Stopped, the same command goes on
where it was.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from measuring import (
    Journal,
    machine,
    medians,
    pauc_embed,
    random_model,
    result_path,
    watch,
    write_result,
)
from PIL import Image

import pauc_hub
from pauc_hub.device import keep_freed_memory
from pauc_hub.images.decoding import read_with
from pauc_hub.inference.streaming import BATCHES_AHEAD, choose_decoder, square
from pauc_hub.sources import Entry, open_source
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance
from pauc_hub.threads import decode_ahead

ARCHITECTURE, SIZE, WIDTH, BATCH = "resnet18", 32, 512, 256
SIDE, DIFFERENT, IN_FOLDER = 64, 4000, 1000
QUESTION = "Does embedding grow in proportion to the number of images, and memory not at all?"


class Line(NamedTuple):
    """y = intercept + slope · x by least squares."""

    slope: float
    intercept: float
    residual: float
    """Root mean square of what it misses, in the unit of y."""


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """Of at least two different x."""
    slope, intercept = np.polyfit(x, y, 1)
    missed = np.asarray(y) - (intercept + slope * np.asarray(x))
    return Line(float(slope), float(intercept), float(np.sqrt(np.mean(missed**2))))


def make_images(folder: Path, count: int) -> Path:
    """`count` names below `folder`, hard links to DIFFERENT small JPEGs in turn (all beside it,
    made once).
    """
    originals = folder.parent / "originals"
    if not originals.exists():
        originals.mkdir()
        for i in range(DIFFERENT):
            (originals / f"{i}.jpg").write_bytes(small_jpeg(i))
    for i in range(count):
        place = folder / f"{i // IN_FOLDER:04d}"
        if i % IN_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"{i % IN_FOLDER:03d}.jpg").hardlink_to(originals / f"{i % DIFFERENT}.jpg")
    return folder


def small_jpeg(seed: int) -> bytes:
    """Soft shapes with some texture: about 2 KB."""
    draws = np.random.default_rng(seed)
    coarse, fine = (
        _stretched(draws.integers(0, 256, (cells, cells, 3), dtype=np.uint8)) for cells in (4, 32)
    )
    file = io.BytesIO()
    Image.fromarray((0.75 * coarse + 0.25 * fine).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _stretched(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def timed(count: int, work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.monotonic(), time.process_time()
    work()
    seconds, busy = time.monotonic() - wall, time.process_time() - cpu
    return {"seconds": seconds, "images_per_second": count / seconds, "cores_busy": busy / seconds}


def listing(folder: Path, count: int) -> dict[str, float]:
    def work() -> None:
        if open_source(folder).listing().images != count:
            raise SystemExit(f"{count} images were made, and the listing has others")

    return timed(count, work)


def reading(model: pauc_hub.Model, folder: Path, count: int) -> dict[str, float]:
    """Decoded and resized as `pauc embed` does it, with its threads."""
    decoder = choose_decoder(model)

    def read(image: Entry) -> object:
        return square(image.name, read_with(decoder, image.open()), model.preprocessing)

    images = open_source(folder).entries()
    return timed(
        count, lambda: [None for _ in decode_ahead(read, images, None, BATCHES_AHEAD * BATCH)]
    )


def writing(folder: Path, count: int, room: Path) -> dict[str, float]:
    """A table of random embeddings, which no compression makes smaller, until it is safe on the
    disk.
    """
    names = [image.name for image in open_source(folder).entries()]
    rows = np.random.default_rng(0).standard_normal((BATCH, WIDTH), dtype=np.float32)
    sizes = np.full((BATCH, 2), SIDE, dtype=np.int32)
    output = room / "written.parquet"

    def work() -> None:
        about = Provenance("random", "", "backbone", {}, "fp32", "", "")
        with open_output(output, WIDTH, count, about) as table:
            for start in range(0, count, BATCH):
                part = names[start : start + BATCH]
                table.write(part, rows[: len(part)], sizes[: len(part)])

    took = timed(count, work)
    took["megabytes_per_second"] = output.stat().st_size / 1e6 / took["seconds"]
    output.unlink()
    return took


def whole(model: Path, folder: Path, count: int, room: Path) -> dict[str, float]:
    """`pauc embed` as a process."""
    output = room / "embedded.parquet"
    took = watch(*pauc_embed(folder, "--batch-size", str(BATCH), model=model, output=output))
    told = json.loads(took.stdout)
    if told["images"] != count:
        raise SystemExit(f"{count} images were made, and the table has {told['images']}")
    output.unlink()
    return took.figures(count)


def measure(counts: Sequence[int], repetitions: int, journal: Journal) -> dict[str, Any]:
    """Every repetition of the parts, by their names, and of the whole, by the number of images."""
    parts: dict[str, list[dict[str, float]]] = {"listing": [], "reading": [], "writing": []}
    wholes: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        folders = {count: make_images(room / str(count), count) for count in counts}
        middle = sorted(counts)[len(counts) // 2]
        images = folders[middle]
        folder = random_model(room / "model", ARCHITECTURE, SIZE)
        model = pauc_hub.load(folder, device="cpu")
        work: dict[str, Callable[[], dict[str, float]]] = {
            "listing": lambda: listing(images, middle),
            "reading": lambda: reading(model, images, middle),
            "writing": lambda: writing(images, middle, room),
        }
        for i in range(1, repetitions + 1):
            for part, runs in parts.items():
                runs.append(journal.once(f"{i}: {part} {middle}", work[part]))
            for count, runs in wholes.items():
                once = partial(whole, folder, folders[count], count, room)
                runs.append(journal.once(f"{i}: all of {count}", once))
    return {"parts": parts, "whole": wholes}


def growth(wholes: dict[int, list[dict[str, float]]]) -> dict[str, float]:
    """Least squares through every repetition: seconds and peak memory against the number of
    images.
    """
    points = [(count, run) for count, runs in wholes.items() for run in runs]
    numbers = [float(count) for count, _ in points]
    time_line = fit(numbers, [run["seconds"] for _, run in points])
    memory_line = fit(numbers, [run["peak_mib"] for _, run in points])
    return {
        "seconds_per_100000_images": 1e5 * time_line.slope,
        "seconds_to_start": time_line.intercept,
        "seconds_residual": time_line.residual,
        "mib_per_100000_images": 1e5 * memory_line.slope,
        "mib_to_start": memory_line.intercept,
        "mib_residual": memory_line.residual,
    }


LIMITS = {
    "listing": "calls to the system, and strings made of names, on one core",
    "reading": "the decoders where cores_busy is near cores_used; where it is lower, their threads "
    "wait for Python's "
    "lock, which an image takes as often when it is small",
    "writing": "compression where cores_busy is 1 or more; where it is lower, the disk",
    "whole": (
        "the same, and the network: what is more than the parts' seconds together is the "
        "network's and the start"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/… unless given")
    arguments = parser.parse_args()
    if len(set(arguments.counts)) < 2:
        parser.error("a line needs two different --counts")
    keep_freed_memory()
    counts, repetitions = arguments.counts, arguments.repetitions
    output = arguments.output or result_path("embed-scaling")
    words = f"--counts {' '.join(map(str, counts))} --repetitions {repetitions}"
    settings = {
        "images": (
            f"JPEGs of {SIDE} x {SIDE}, {DIFFERENT} different ones and hard links to them, "
            f"{IN_FOLDER} a folder"
        ),
        "model": f"{ARCHITECTURE}, random weights, {SIZE} pixels",
        "batch_size": BATCH,
        "counts": counts,
    }
    journal = Journal(
        output.with_suffix(".unfinished.json"), about := {"settings": settings, **machine()}
    )
    runs = measure(counts, repetitions, journal)
    result = {
        "question": QUESTION,
        "command": f"python benchmarks/embed_scaling.py {words}",
        **about,
        "growth": growth(runs["whole"]),
        "medians": {
            kind: {name: medians(found) for name, found in runs[kind].items()} for kind in runs
        },
        "limits": LIMITS,
        "sittings": journal.sittings,
        "repetitions": runs,
    }
    write_result(output, result, ("growth", "medians"))
    journal.remove()


if __name__ == "__main__":
    main()
