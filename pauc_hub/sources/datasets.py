"""Images that a program hands over: paths, or a map-style dataset of pictures, such as
torchvision's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from PIL import Image

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import UnreadableImage, readable, to_rgb
from pauc_hub.images.jpeg import Picture
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.sources.by_index import ImageSource, from_entries, open_by_index
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.value_ranges import with_measured_range


class Dataset(Protocol):
    """Images by index, each a PIL image, a tuple that begins with one, or a mapping that holds
    one.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def open_images(
    images: "str | Path | ImageSource | Sequence[str | Path] | Dataset",
    given: Reading = PLAIN,
    *,
    quiet: bool = False,
) -> ImageSource:
    """Whatever train() takes, by index.

    Args:
        images: a place as open_by_index() takes it; or a list of paths; or a dataset, whose images
            are known by their numbers.
        given: of value range and bands; an ImageSource has its own.

    Raises:
        UsageError, NoImages, PaucError: nothing there that could be trained on.
    """
    if isinstance(images, ImageSource):
        return images
    if isinstance(images, str | Path):
        return open_by_index(images, given, quiet=quiet)
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise UsageError(
            f"images is a {type(images).__name__}, which cannot be read by index: "
            "give a folder, a list of paths or a map-style dataset."
        )
    count = len(images)
    if count == 0:
        raise NoImages(f"no images: the {type(images).__name__} is empty.")
    if isinstance(images[0], str | Path):
        return _files([str(path) for path in cast(Sequence[str | Path], images)], given)
    _check(images[0])
    digits = len(str(count - 1))
    names = [f"{index:0{digits}}" for index in range(count)]
    # pictures are of bytes already: there is no range to read them with
    return ImageSource(
        type(images).__name__, names, lambda index, _: read_item(images, index), has_place=False
    )


def _files(paths: list[str], given: Reading) -> ImageSource:
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise UsageError(
            f"{len(missing)} of {len(paths)} images are no files, such as '{readable(missing[0])}'."
        )
    files = [ImageFile(readable(path), path) for path in paths]
    reading = with_measured_range(files, given)
    return from_entries(f"{len(paths)} files", files, has_place=False, reading=reading)


def _check(item: Any) -> None:
    """Look at the first before anything starts."""
    if _picture(item) is None:
        found = _picture_place(item)
        raise UsageError(
            f"images[0] is {found}; training cuts its own views from PIL images: "
            "give the dataset without its transform, or a list of paths."
        )


def read_item(dataset: Dataset, index: int) -> Picture:
    """The picture, upright RGB.

    Raises:
        UnreadableImage: the dataset fails there, whatever it raises, or gives something else.
    """
    try:
        picture = _picture(dataset[index])
        if picture is not None:
            return to_rgb(picture)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage("damaged", reason) from error
    raise UnreadableImage("unsupported", "the dataset gives no PIL image there")


def _picture(item: Any) -> Image.Image | None:
    if isinstance(item, Mapping):
        # Hugging Face's datasets name their columns
        return next((value for value in item.values() if isinstance(value, Image.Image)), None)
    if isinstance(item, tuple | list) and item:
        item = item[0]
    return item if isinstance(item, Image.Image) else None


def _picture_place(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping of {', '.join(map(str, item))} without a PIL image"
    if isinstance(item, tuple | list) and item:
        return f"a {type(item).__name__} that begins with a {type(item[0]).__name__}"
    return f"a {type(item).__name__}"
