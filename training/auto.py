"""Settings for somebody's own images, from their number, their size and the machine; each with its reason."""

import statistics
from typing import Any, NamedTuple

from pauc_hub.training.data import ImageSource

STEP = 32  # pixels; a ResNet halves its input five times
LARGEST = {"cuda": 224, "cpu": 64}  # of views, pixels
LOOKED_AT = 64  # images whose size is read
SEEN = {"cuda": 20_000_000, "cpu": 2_000_000}  # views of a whole run: hours on either
EPOCHS = {"cuda": (100, 800), "cpu": (10, 200)}
BATCH = 256
DEEP = 100_000  # images from which on a ResNet-50 is worth its cost, on a GPU


class Choice(NamedTuple):
    """One setting, and why."""

    name: str
    value: Any
    reason: str


def choose(images: int, side: int, device: str) -> list[Choice]:
    """What to train with where nothing else is asked for; Config.resolve() chooses clusters and queue.

    Args:
        images: how many there are.
        side: usual length of their shorter sides, pixels.
        device: `cpu`, or else a kind of GPU.
    """
    kind = "cpu" if device == "cpu" else "cuda"
    least, most = EPOCHS[kind]
    largest, seen = LARGEST[kind], SEEN[kind]
    size = min(largest, max(STEP, side // STEP * STEP))
    batch = min(BATCH, max(STEP, images // 16 // STEP * STEP))
    epochs = min(most, max(least, round(seen / images)))
    architecture = "resnet50" if kind == "cuda" and images >= DEEP else "resnet18"
    return [
        Choice("architecture", architecture, f"{images} images, {'a CPU' if kind == 'cpu' else 'a GPU'}"),
        Choice("size", size, f"their shorter sides have {side} pixels; {largest} at most to begin with"),
        Choice("batch_size", batch, f"{BATCH}, or less where there would be few batches an epoch"),
        Choice("epochs", epochs, f"about {seen:,} images seen in all, {least} to {most} epochs"),
    ]


def usual_side(source: ImageSource) -> int:
    """Median of the shorter sides of some images, spread evenly over the source; 224 where none can be read."""
    step = max(1, len(source) // LOOKED_AT)
    images = (source.read(index) for index in range(0, len(source), step))
    sides = [min(image.size) for image in images if image is not None]
    return round(statistics.median(sides)) if sides else LARGEST["cuda"]
