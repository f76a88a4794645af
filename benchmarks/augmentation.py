"""How many images a second are augmented, two views each: by ours in batches, by torchvision's
transforms in workers?

    python benchmarks/augmentation.py                  # views of 32, 64 and 224 pixels
    python benchmarks/augmentation.py --device cuda    # on the GPU

All have the same set and strengths: random resized crop, flip, colour jitter with hue, greyscale,
blur, normalise. The others are torchvision's v2 on tensors and its transforms on PIL images, each
image for itself in a DataLoader with a worker for each core. All begin with decoded images in
memory and end with float32 batches on the device. A pass before the one that is timed starts
workers and chooses kernels; the repetitions are interleaved. Stopped, the same command goes on
where it was.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import (
    DTYPES,
    Journal,
    ceilings,
    machine,
    medians,
    result_path,
    seconds_of,
    write_result,
)
from per_image import BATCH, Settings, in_workers, on_pil, on_tensors
from PIL import Image

from pauc_hub.device import keep_freed_memory
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.data import Views
from pauc_hub.training.data.augment import Augmentation
from pauc_hub.training.data.resident import Resident, choose_loader
from pauc_hub.training.data.views import epoch_batches
from pauc_hub.training.interruption import StopRequest

# side of the views: side and number of the images
SIZES = {32: (32, 4096), 64: (64, 2048), 224: (256, 512)}
OURS = "pauc, batches"
QUESTION = "How many images a second are augmented, two views each?"
Pixels = npt.NDArray[np.uint8]


def soft_image(seed: int, side: int) -> Pixels:
    """Soft shapes with some texture, (side, side, 3)."""
    draws = np.random.default_rng(seed)
    cells = Image.fromarray(draws.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    shapes = np.asarray(cells.resize((side, side), Image.Resampling.BICUBIC))
    return (0.75 * shapes + 0.25 * draws.integers(0, 256, (side, side, 3))).astype(np.uint8)


class Ours:
    """Images that lie on the device, and what training makes of them."""

    def __init__(self, settings: Settings, images: list[Pixels], device: torch.device) -> None:
        with tempfile.TemporaryDirectory() as name:
            for i, pixels in enumerate(images):
                Image.fromarray(pixels).save(Path(name) / f"{i:06d}.png")
            source, workers = open_by_index(Path(name)), os.cpu_count() or 1
            loader = choose_loader(
                source, settings.preprocessing, workers, device, StopRequest(), quiet=True
            )
        if not isinstance(loader, Resident):
            raise SystemExit(
                f"{len(images)} images of {images[0].shape[0]} pixels do not fit {device}'s memory"
            )
        self.loader, self.config, self.count = loader, settings.config, len(images)
        mean, std = settings.preprocessing.mean, settings.preprocessing.std
        self.augment = Augmentation(mean, std, settings.config.blur_range[1] / settings.config.size)

    def crops(self, epoch: int) -> Iterator[Views]:
        return self.loader.views(epoch_batches(self.config, self.count, epoch))

    def cropping(self) -> None:
        for _ in self.crops(0):
            pass

    def whole(self) -> None:
        for batch in self.crops(0):
            self.augment(batch.first, batch.draws[0])
            self.augment(batch.second, batch.draws[1])

    def measure(self) -> dict[str, float]:
        self.whole()
        busy = time.process_time()
        seconds = seconds_of(self.whole)
        cores = (time.process_time() - busy) / seconds
        share = seconds_of(self.cropping) / seconds
        return {
            "images_per_second": self.count / seconds,
            "cropping_share": share,
            "cores_busy": cores,
        }


def tools(
    size: int, side: int, count: int, device: torch.device
) -> dict[str, Callable[[], dict[str, float]]]:
    """Each tool's pass over the same images."""
    settings = Settings(size)
    pixels = [soft_image(i, side) for i in range(count)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in pixels]
    pictures = [Image.fromarray(image) for image in pixels]
    return {
        OURS: lambda: Ours(settings, pixels, device).measure(),
        "torchvision v2, tensors in workers": lambda: in_workers(
            tensors, on_tensors(settings), device
        ),
        "torchvision, PIL images in workers": lambda: in_workers(
            pictures, on_pil(settings), device
        ),
    }


def measure(given: argparse.Namespace, journal: Journal) -> dict[str, Any]:
    """Every repetition of every tool at every size."""
    device = torch.device(given.device)
    present = {
        size: tools(size, SIZES[size][0], given.count or SIZES[size][1], device)
        for size in given.sizes
    }
    runs: dict[str, Any] = {
        "ceilings": [],
        "sizes": {size: {name: [] for name in present[size]} for size in present},
    }
    for i in range(1, given.repetitions + 1):
        runs["ceilings"].append(journal.once(f"{i}: ceilings", partial(ceilings, device)))
        for size, found in runs["sizes"].items():
            for name, work in present[size].items():
                found[name].append(journal.once(f"{i}: {size} pixels, {name}", work))
    return runs


def least_bytes(size: int, side: int) -> int:
    """That no method can do without: the image read and a float32 view written, twice."""
    return 2 * 3 * (side**2 + DTYPES["fp32"].itemsize * size**2)


def crop_gflop(size: int, side: int) -> float:
    """Of both views: across, then down, each row and column of the view a product with all pixels
    of the image's.
    """
    return 2 * 2e-9 * 3 * side * size * (side + size)


def summarise(runs: dict[str, Any]) -> dict[str, Any]:
    """Medians; how many times faster ours is; how near to the memory's speed."""
    top = medians(runs["ceilings"])
    found = {
        size: {name: medians(each) for name, each in of.items()}
        for size, of in runs["sizes"].items()
    }
    rates = {
        size: {name: of["images_per_second"] for name, of in each.items()}
        for size, each in found.items()
    }
    return {
        "medians": {"ceilings": top, "sizes": found},
        "ratios": {
            size: {name: each[OURS] / rate for name, rate in each.items() if name != OURS}
            for size, each in rates.items()
        },
        "how far from the limit": {
            size: limits(size, each[OURS], top) for size, each in found.items()
        },
    }


def limits(size: int, ours: dict[str, float], top: dict[str, float]) -> dict[str, float]:
    rate, share, side = ours["images_per_second"], ours["cropping_share"], SIZES[size][0]
    return {
        "share_of_copying": 1e-9 * rate * least_bytes(size, side) / top["copy_gb_per_second"],
        "cropping_share": share,
        "crops_share_of_products": rate / share * crop_gflop(size, side) / top["fp32_gflops"],
    }


LIMITS = (
    "Memory: an image must be read and two float32 views written (share_of_copying, of what "
    "plain copies reach); each "
    "of the steps passes over them again. The crops, cropping_share of the time, are matrix "
    "products "
    "(crops_share_of_products, of what bare ones reach)."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        choices=SIZES,
        default=list(SIZES),
        help="pixels of the views",
    )
    parser.add_argument(
        "--count",
        type=int,
        help=f"images; {', '.join(str(n) for _, n in SIZES.values())} unless given",
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/… unless given")
    given = parser.parse_args()
    keep_freed_memory()
    device = torch.device(given.device)
    output = given.output or result_path("augmentation", device)
    settings = {
        "sizes": given.sizes,
        "images": {
            size: dict(zip(("side", "count"), SIZES[size], strict=True)) for size in given.sizes
        },
        "count": given.count,
        "batch_size": BATCH,
        "workers of the others": os.cpu_count(),
        "threads of ours": torch.get_num_threads(),
    }
    about = {"settings": settings, **machine(device)}
    journal = Journal(output.with_suffix(".unfinished.json"), about)
    runs = measure(given, journal)
    words = f"--device {given.device} --sizes {' '.join(map(str, given.sizes))}"
    words += f" --count {given.count}" * (given.count is not None)
    result = {
        "question": QUESTION,
        "command": f"python benchmarks/augmentation.py {words} --repetitions {given.repetitions}",
        **about,
        **summarise(runs),
        "limits": LIMITS,
        "sittings": journal.sittings,
        "repetitions": runs,
    }
    write_result(output, result, ("medians", "ratios", "how far from the limit"))
    journal.remove()


if __name__ == "__main__":
    main()
