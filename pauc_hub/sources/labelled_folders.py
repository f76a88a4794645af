"""Labels of a folder of images: one subfolder a class, perhaps below folders for its splits."""

from collections.abc import Iterator
from pathlib import Path

from pauc_hub.errors import UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.sources.folders import ImageFile, walk

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "holdout"),
}
# Tiny ImageNet keeps the images of a class one level deeper, in a folder of this name.
IMAGES = "images"

Classes = dict[str, list[ImageFile]]
"""Images by class, both in the order of their names; a file's name begins at its class's folder."""


def find_splits(folder: Path) -> dict[str, Path]:
    """The folders of its splits by `train`, `val` and `test`, whichever of SPLIT_NAMES they have,
    in any case.

    Returns:
        `train` with `val` or `test` or both; empty where there are no such two, as `train` alone
        may be a class.

    Raises:
        UsageError: `folder` is no folder.
    """
    by_name = {path.name.lower(): path for path in reversed(_subfolders(folder))}
    found = {
        split: by_name[name]
        for split, names in SPLIT_NAMES.items()
        for name in reversed(names)
        if name in by_name
    }
    return found if "train" in found and len(found) > 1 else {}


def read_classes(folder: Path, least: int = 2) -> Classes:
    """The images of each subfolder, which is a class; empty subfolders are none.

    Args:
        least: classes that there must be.

    Raises:
        UsageError: there are fewer, or a subfolder holds folders instead of images.
    """
    classes = {path.name: list(walk(path)) for path in _subfolders(folder)}
    classes = {name: images for name, images in classes.items() if images}
    for name, images in classes.items():
        if not any(_is_own(image) for image in images):
            raise UsageError(
                f"'{readable(folder / name)}' holds folders and no images of its own, so it is "
                "no class. "
                "Give a folder with one subfolder of images for each class, or with such a "
                "folder for each split: "
                f"{'; '.join(_said_splits())}."
            )
    if len(classes) < least:
        there = f"only '{readable(next(iter(classes)))}'" if classes else "none"
        raise UsageError(
            f"'{readable(folder)}' needs {least} or more subfolders with images, one for each "
            f"class; it has {there}."
        )
    return classes


def listed_labels(folder: Path) -> dict[str, str]:
    """Labels of the validation images of Tiny ImageNet as it is distributed, by their paths below
    `folder`.

    There `val/images` holds them all, and `val/val_annotations.txt` tells the class of each; `test`
    has no labels. Empty for any other folder.
    """
    listing = folder / "val" / "val_annotations.txt"
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    rows = [line.split("\t") for line in lines]
    return {f"val/{IMAGES}/{row[0]}": row[1] for row in rows if len(row) > 1}


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError as error:
        raise UsageError(
            f"'{readable(folder)}' cannot be listed ({error.strerror}). "
            "Give a folder with one subfolder of images for each class."
        ) from error


def _is_own(image: ImageFile) -> bool:
    """Whether it lies in the class's folder itself; what cannot be listed counts, since reading it
    tells why.
    """
    above, _, name = image.name.rpartition("/")
    return not name or above in ("", IMAGES)


def _said_splits() -> Iterator[str]:
    for split, (_, *others) in SPLIT_NAMES.items():
        yield f"{split} (or {', '.join(others)})"
