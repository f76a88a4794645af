"""Images that an exported file is compared on, and an int8 one calibrated: a source's, or made. n
images, S side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pauc_hub.errors import NoImages, PaucError
from pauc_hub.images.decoding import UnreadableImage, read_with, to_rgb
from pauc_hub.images.reading import Reading
from pauc_hub.inference.model import Model
from pauc_hub.sources import Entry, Source
from pauc_hub.threads import decode_ahead

# They take a ViT-S of 224 pixels about a minute on two cores, three times over.
MOST = 256
MADE = 32
AHEAD = 32


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images as the network sees them."""

    squares: npt.NDArray[np.uint8]
    """(n, S, S, 3)."""
    source: str
    """Where they are from; empty where they were made."""
    unreadable: int = 0


def read_pictures(source: Source, place: str | Path, model: Model, reading: Reading) -> Pictures:
    """At most MOST images of a source, evenly spread where their number is known.

    Args:
        place: that the source was opened at.

    Raises:
        NoImages: none can be read.
    """
    count = source.listing().images
    step = -(-count // MOST) if count else 1

    def read(entry: Entry) -> npt.NDArray[np.uint8] | None:
        try:
            return model.preprocessing.square(read_with(to_rgb, entry.open(), reading))
        except (UnreadableImage, OSError, PaucError):
            return None

    entries = (
        entry for row, entry in enumerate(source.entries()) if row % step == 0 and row < MOST * step
    )
    found = list(decode_ahead(read, entries, None, AHEAD))
    squares = [square for square in found if square is not None]
    if not squares:
        raise NoImages(f"none of the images in '{place}' can be read. Name others, images=FOLDER.")
    return Pictures(np.stack(squares), str(place), len(found) - len(squares))


def make_pictures(side: int) -> Pictures:
    """MADE pictures of random colours, from coarse to fine, the same ones always."""
    rng = np.random.default_rng(0)
    squares = [_blots(rng, 2 + row, side) for row in range(MADE)]
    return Pictures(np.stack(squares), "")


def _blots(rng: np.random.Generator, cells: int, side: int) -> npt.NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
