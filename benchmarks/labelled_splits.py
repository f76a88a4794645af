"""Labelled data sets as they are distributed: the training and the test split, in memory. N
images.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

TESTS = ("test", "val")


class Split(NamedTuple):
    """Images as paths or encoded bytes, with their classes."""

    images: list[Path] | list[bytes]
    labels: npt.NDArray[np.int64]
    """(N,)"""


def read_splits(place: Path) -> tuple[Split, Split]:
    """Training split, and test or validation split.

    Args:
        place: Tiny ImageNet's folder as it is distributed; a folder with Parquet files of both
            splits; or the training split's Parquet file, `train` in its name, with the other one
            beside it.

    Raises:
        SystemExit: a split is missing.
    """
    if (place / "train").is_dir():
        return _tiny_imagenet(place)
    return read_rows(_files(place, ("train",))), read_rows(_files(place, TESTS))


def place_of_splits(place: Path) -> tuple[Path, Path | None]:
    """The same as `pauc eval` takes it: the place of both splits, or that of the first and that of
    the other.

    Raises:
        SystemExit: a split is missing.
    """
    if place.is_dir():
        return place, None
    return place, _files(place, TESTS)[0]


def training_images(place: Path) -> str:
    """What `pauc train` is given for the training split of `place`."""
    if (place / "train").is_dir():
        return str(place / "train")
    files = _files(place, ("train",))
    return str(files[0]) if len(files) == 1 else str(files[0].parent / "*train*.parquet")


def _files(place: Path, splits: tuple[str, ...]) -> list[Path]:
    if place.is_file() and splits == ("train",):
        return [place]
    if place.is_file():
        found = [
            path
            for split in splits
            if (path := place.with_name(place.name.replace("train", split))).exists()
        ]
        found = [path for path in found if path != place]
    else:
        found = [path for split in splits for path in sorted(place.glob(f"*{split}*.parquet"))]
    if not found:
        raise SystemExit(
            f"error: '{place}' has no {' or '.join(splits)} split (Parquet, named so) in or "
            "beside it."
        )
    return found


def read_rows(files: list[Path]) -> Split:
    """Parquet files with columns image (bytes, path) and label, one after the other."""
    images: list[bytes] = []
    labels: list[int] = []
    for path in files:
        table = pq.read_table(path, columns=["image", "label"])
        images += [row["bytes"] for row in table["image"].to_pylist()]
        labels += table["label"].to_pylist()
    return Split(images, np.array(labels, np.int64))


def _tiny_imagenet(folder: Path) -> tuple[Split, Split]:
    """Classes are numbered in the order of their WordNet ids."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train = [
        (path, i)
        for i, name in enumerate(classes)
        for path in sorted((folder / "train" / name).rglob("*.JPEG"))
    ]
    annotations = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    fields = [line.split("\t") for line in annotations]
    val = [(folder / "val" / "images" / name, classes.index(wnid)) for name, wnid, *_ in fields]
    return _paths(train), _paths(val)


def _paths(rows: list[tuple[Path, int]]) -> Split:
    return Split([path for path, _ in rows], np.array([label for _, label in rows], np.int64))
