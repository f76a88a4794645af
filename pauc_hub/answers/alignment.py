"""Alignment: how near two views of one image lie in the space of a model. N images, D width."""

import zlib
from contextlib import closing
from itertools import islice
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageOps

from pauc_hub.answers.labelled import LabelledTable
from pauc_hub.answers.reachable_images import reachable_images
from pauc_hub.errors import PaucError
from pauc_hub.evaluation.classification import Score
from pauc_hub.evaluation.folds import Numbers
from pauc_hub.evaluation.geometry import jackknife
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.images.reading import Reading
from pauc_hub.inference.model import Model, load
from pauc_hub.progress import progress_bar
from pauc_hub.sources import Entry
from pauc_hub.threads import decode_ahead

SAMPLE = 512
"""Images of which views are made."""
LEAST = 10
"""Fewer that can be reached are too few to say anything."""
AREA = (0.2, 1.0)
"""Of a view, as a share of the image's."""
RATIO = (3 / 4, 4 / 3)
"""Of a view's width to its height, the image's own taken as 1."""
JITTER = 0.4
"""Brightness, contrast and saturation each change by a factor within 1 ± this."""
TOGETHER = 32
AHEAD = 64

Square = npt.NDArray[np.uint8]


def measure_alignment(
    table: LabelledTable,
    model: str | Path | None,
    groups: Numbers | None,
    seed: int,
    device: str,
    quiet: bool,
) -> Score:
    """Mean squared distance between unit features of two random views of an image: 0 where views
    make no difference.

    Every model is shown the same crops, mirror images and colours of the same SAMPLE images.

    Args:
        table: whose images are still where they were.
        model: what made it; found by its name unless given.
        groups: (N,) numbers of what belongs together, for the interval.

    Raises:
        PaucError: fewer than LEAST images can be reached, or not the model; in a few words, for a
            list of reasons.

    Source: Wang & Isola 2020, with alpha = 2; method.md §6.
    """
    about = table.given.table.provenance
    if about.pca:
        raise PaucError("the table holds principal components, and no features")
    names = table.paths()
    chosen = np.random.default_rng(seed).permutation(len(names))[:SAMPLE]
    rows = {names[row]: int(row) for row in chosen}
    places = list(reachable_images(about.root, {*rows}))
    if len(places) < LEAST:
        raise PaucError(
            f"needs the images, and {len(places)} of {len(rows)} are still in '{about.root}'"
        )
    found = _distances(
        places, _model_of(table, model, device), about.space, about.reading, seed, quiet
    )
    if len(found) < LEAST:
        raise PaucError(f"needs the images, and {len(found)} of {len(rows)} could be read")
    squared = np.array(list(found.values()))

    def mean(kept: npt.NDArray[np.bool_]) -> float:
        return float(squared[kept].mean())

    parts = None if groups is None else groups[[rows[name] for name in found]]
    low, high = jackknife(mean, len(squared), parts, seed)
    return Score(float(squared.mean()), low, high)


def _model_of(table: LabelledTable, model: str | Path | None, device: str) -> Model:
    about = table.given.table.provenance
    side = about.preprocessing.get("input_size", [None])[-1]
    try:
        found = load(
            model or about.model,
            device=device,
            precision=about.precision,
            image_size=side,
            quiet=True,
        )
    except PaucError as error:
        raise PaucError(
            f"needs the model, and '{model or about.model}' cannot be loaded"
        ) from error
    if found.weights_sha256 != about.weights_sha256:
        raise PaucError(f"needs the model, and '{about.model}' is another one now")
    return found


def _distances(
    places: list[tuple[str, Entry | Path]],
    model: Model,
    space: str,
    reading: Reading,
    seed: int,
    quiet: bool,
) -> dict[str, float]:
    """Squared distance between the two views of each image that can be read, in [0, 4]."""

    def read(found: tuple[str, Entry | Path]) -> tuple[str, Square, Square] | None:
        name, place = found
        try:
            image = read_image(place if isinstance(place, Path) else place.open(), reading)
        except (UnreadableImage, OSError):
            return None
        # by the name, so that other images in the table change nothing
        rng = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
        first, second = (model.preprocessing.square(view(image, rng)) for _ in range(2))
        return name, first, second

    distances: dict[str, float] = {}
    with (
        progress_bar(len(places), "two views of each image", quiet=quiet) as bar,
        closing(decode_ahead(read, places, None, AHEAD)) as results,
    ):
        while some := list(islice(results, TOGETHER)):
            bar.advance(len(some))
            there = [each for each in some if each]
            if not there:
                continue
            first = _unit(model, [square for _, square, _ in there], space)
            second = _unit(model, [square for _, _, square in there], space)
            squared = np.square(first - second).sum(axis=1)
            distances |= {
                name: float(each) for (name, _, _), each in zip(there, squared, strict=True)
            }
    return distances


def view(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random crop of an image, mirrored or not, of other brightness, contrast and saturation.

    Args:
        image: RGB.
    """
    box = _box(*image.size, rng)
    cropped = image.crop(box)
    if rng.random() < 0.5:
        cropped = ImageOps.mirror(cropped)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        cropped = change(cropped).enhance(float(rng.uniform(1 - JITTER, 1 + JITTER)))
    return cropped


def _box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom; within the image, and at least a pixel each way."""
    share = rng.uniform(*AREA)
    ratio = exp(rng.uniform(log(RATIO[0]), log(RATIO[1])))
    across = min(width, max(1, round(width * sqrt(share * ratio))))
    down = min(height, max(1, round(height * sqrt(share / ratio))))
    left = int(rng.integers(0, width - across + 1))
    top = int(rng.integers(0, height - down + 1))
    return left, top, left + across, top + down


def _unit(model: Model, squares: list[Square], space: str) -> npt.NDArray[np.float64]:
    """(n, D) features of unit length."""
    features = model.encode(torch.from_numpy(np.stack(squares)), space)
    unit: npt.NDArray[np.float64] = (
        torch.nn.functional.normalize(features.double(), dim=1).cpu().numpy()
    )
    return unit
