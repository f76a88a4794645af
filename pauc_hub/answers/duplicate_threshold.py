"""From which similarity on two images are copies: measured on copies made of a sample of the same
images.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pauc_hub.answers.inputs import Given
from pauc_hub.errors import PaucError
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.retrieval.duplicates import count_pairs_above
from pauc_hub.retrieval.leakage import SAME_PICTURE
from pauc_hub.retrieval.queries import image_file

SAMPLE = 100
"""Images that copies are made of, three of each."""
LEAKAGE_SAMPLE = 40
"""The same, where a probe looks for copies besides its own work."""
FALSE_LEAKS = 0.01
"""Share of the test images."""
STEPS = 30
"""Thresholds that are looked at."""
ROWS_ASKED = 500
"""Rows that are compared with all others, for the number of false pairs."""
RECALL = 0.95
UNCALIBRATED = 0.97
"""Where no image can be reached, so that no copy can be made."""


@dataclass(frozen=True)
class Threshold:
    """Least cosine similarity of a copy, and how it was found."""

    value: float
    recall: float | None = None
    """Share of the made copies, of images that did not choose the value, that reach it."""
    copies: int = 0
    """How many copies the recall is of."""
    false_pairs: float | None = None
    """Pairs of the whole table that reach it and are not equal in all numbers: an upper bound for
    false ones.
    """
    given: bool = False
    """Whether the user chose it."""


def re_encoded(image: Image.Image) -> Image.Image:
    """As a JPEG of quality 75."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return Image.open(buffer).convert("RGB")


def resized(image: Image.Image) -> Image.Image:
    """To 70 % of its sides."""
    width, height = image.size
    return image.resize(
        (max(1, round(0.7 * width)), max(1, round(0.7 * height))), Image.Resampling.BICUBIC
    )


def cropped(image: Image.Image) -> Image.Image:
    """Without a margin of 3 % on each side."""
    width, height = image.size
    return image.crop(
        (round(0.03 * width), round(0.03 * height), round(0.97 * width), round(0.97 * height))
    )


COPIES: tuple[Callable[[Image.Image], Image.Image], ...] = (re_encoded, resized, cropped)


def calibrate_threshold(
    given: Given,
    vectors: npt.NDArray[np.float32],
    paths: list[str],
    model: str | Path | None,
    device: str,
    sample: int = SAMPLE,
    most_false: float | None = None,
) -> Threshold:
    """Choose the threshold that 95 % of made copies reach, on half of the sample; the recall is
    that of the other half.

    Args:
        given: the table.
        vectors: (N, D) its rows.
        paths: (N,) their names.
        model: what made the table, where its name there does not lead to it.
        sample: images that copies are made of.
        most_false: pairs of the whole table that may reach it and be no copies; a lower threshold
            is raised, at the cost of recall, to SAME_PICTURE at most. Any number unless given.

    Returns:
        UNCALIBRATED without a recall where fewer than ten images can be reached, or their model
        cannot.
    """
    rng = np.random.default_rng(0)
    rows = _reachable(given, paths, rng.permutation(len(paths)), sample)
    if len(rows) < 10 or given.origin.pca:
        return Threshold(UNCALIBRATED)
    try:
        similarity = _similarities(given, vectors, paths, rows, model, device)
    except PaucError:
        return Threshold(UNCALIBRATED)
    chosen_on = similarity[: len(similarity) // 2].ravel()
    told_of = similarity[len(similarity) // 2 :].ravel()
    least = float(np.quantile(chosen_on, 1 - RECALL))
    values = (
        [least]
        if most_false is None or least >= SAME_PICTURE
        else np.linspace(least, SAME_PICTURE, STEPS).tolist()
    )
    asked = np.sort(rng.permutation(len(paths))[:ROWS_ASKED])
    *above, equal = count_pairs_above(
        vectors, asked, (*values, 1 - 1e-6), device=torch.device("cpu")
    ).tolist()
    false_pairs = [max(0, count - equal) * len(paths) / (2 * len(asked)) for count in above]
    chosen = first_within(false_pairs, most_false)
    return Threshold(
        value=values[chosen],
        recall=float((told_of >= values[chosen]).mean()),
        copies=len(told_of),
        false_pairs=float(false_pairs[chosen]),
    )


def first_within(false_pairs: Sequence[float], most: float | None) -> int:
    """The first of rising thresholds that few enough pairs reach; the last where none is such."""
    if most is None:
        return 0
    return next((i for i, count in enumerate(false_pairs) if count <= most), len(false_pairs) - 1)


def calibrate_for_leakage(
    given: Given,
    vectors: npt.NDArray[np.float32],
    paths: list[str],
    asked: int,
    model: str | Path | None,
    device: str,
) -> Threshold:
    """From which similarity on a test image is a copy of a training image: measured, and raised
    while others reach it.

    Args:
        given: the table of the training images. vectors: (N, D) some of its rows. paths: (N,) their
            names.
        asked: number of test images.
        model: as for calibrate().

    Returns:
        The least threshold that 95 % of made copies reach and at most FALSE_LEAKS of the test
        images, or one, without being copies, but not above SAME_PICTURE; that without a recall
        where nothing can be measured.
    """
    # a test image's pairs with training images are as many as another training image's
    most = max(1.0, FALSE_LEAKS * asked) / asked * len(paths) / 2
    found = calibrate_threshold(given, vectors, paths, model, device, LEAKAGE_SAMPLE, most)
    return Threshold(SAME_PICTURE) if found.recall is None else found


def _reachable(
    given: Given, paths: list[str], order: npt.NDArray[np.int64], sample: int
) -> list[int]:
    root = given.table.provenance.root
    found: list[int] = []
    # Not all of a large table are looked for where the folder is gone.
    for row in order[: 20 * sample]:
        if image_file(root, paths[int(row)]).is_file():
            found.append(int(row))
            if len(found) == sample:
                break
    return found


def _similarities(
    given: Given,
    vectors: npt.NDArray[np.float32],
    paths: list[str],
    rows: list[int],
    name: str | Path | None,
    device: str,
) -> npt.NDArray[np.float32]:
    """(n, 3): of each readable image and its copies."""
    from pauc_hub.inference.model import load

    about = given.table.provenance
    model = load(name or about.model, device=device, precision=about.precision)
    if model.weights_sha256 != about.weights_sha256:
        raise PaucError("the model of that name is another one.")
    found = []
    for row in rows:
        try:
            image = read_image(image_file(about.root, paths[row]), about.reading)
        except UnreadableImage:
            continue
        copies = model.embed([make(image) for make in COPIES], space=about.space)
        found.append(
            copies
            @ vectors[row]
            / (np.linalg.norm(copies, axis=1) * np.linalg.norm(vectors[row]) + 1e-30)
        )
    return np.array(found, np.float32).reshape(-1, len(COPIES))
