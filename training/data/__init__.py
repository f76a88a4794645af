"""All images of a run by index, wherever they lie; and what the loop asks for and gets. N images of a batch, S side."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from pauc_hub import sources
from pauc_hub.errors import NoImages, TrainingFailed, UsageError
from pauc_hub.images.decoding import UnreadableImage, read_with
from pauc_hub.images.jpeg import Pixels, decode
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.inference.streaming import decode_ahead
from pauc_hub.progress import progress_bar
from pauc_hub.sources import Entry, Source
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.rows import Rows
from pauc_hub.sources.stored import Unreadable, public
from pauc_hub.sources.tars import Archives, Member
from pauc_hub.sources.value_ranges import with_measured_range
from pauc_hub.training.data.spool import Spool
from pauc_hub.training.data.views import Batch, ViewDraws

Picture = Image.Image | Pixels  # ordinary JPEGs are arrays
TRIES = 100  # neighbours tried in place of an unreadable image before giving up
FETCHED_TOGETHER = 16  # images behind URLs: it is waiting, not work


def size_of(picture: Picture) -> tuple[int, int]:
    """Width, height."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


@dataclass
class ImageSource:
    """All images of a run, by index, in the source's own order.

    Attributes:
        root: the place as it was given, without credentials.
        images: each can be opened at any time, in any thread.
        unreadable: indices that could not be decoded so far, and why.
        read_entry: makes an upright RGB picture of one of the images, in any thread; None for images that are stored.
        reading: how stored images are read: value range and bands (docs/images.md).
        has_place: whether `root` is a place that `pauc train` takes; lists and datasets of a program have none.
    """

    root: str
    images: Sequence[Entry]
    unreadable: dict[int, str] = field(default_factory=dict)
    read_entry: Callable[[Entry], Picture] | None = None
    has_place: bool = True
    reading: Reading = PLAIN

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def names(self) -> list[str]:
        """Of each image, as in a table of embeddings (docs/sources.md)."""
        return [image.name for image in self.images]

    def read(self, index: int) -> Picture | None:
        """The image, upright RGB; None where it cannot be read, which is remembered."""
        entry = self.images[index]
        try:
            return self.read_entry(entry) if self.read_entry else read_with(decode, entry.open(), self.reading)
        except (UnreadableImage, OSError) as error:
            self.unreadable[index] = str(error)
            return None

    def read_or_next(self, index: int) -> tuple[int, Picture]:
        """The image, or the next readable one in its place, with the index that it really has.

        Raises:
            TrainingFailed: none of the 100 from there on can be read.
        """
        tries = min(TRIES, len(self))
        for offset in range(tries):
            at = (index + offset) % len(self)
            image = None if at in self.unreadable else self.read(at)
            if image is not None:
                return at, image
        raise TrainingFailed(
            f"none of {tries} images from '{self.names[index]}' on can be read ({self.unreadable[index]}). "
            f"Is '{self.root}' intact?"
        )

    def fingerprint(self) -> str:
        """sha256 of the list of names: whether two runs saw the same images."""
        return hashlib.sha256("\n".join(self.names).encode("utf-8", "surrogateescape")).hexdigest()


def open_source(place: str | Path, *, quiet: bool = False) -> ImageSource:
    """Whatever `pauc embed` takes (docs/sources.md); what has no random access is copied to a scratch file first.

    Args:
        place: as text, since a Path spoils URLs.

    Raises:
        UsageError, NoImages, PaucError: nothing there that could be trained on, or no room for the scratch file.
    """
    source, root = sources.open_source(place), public(str(place))
    with progress_bar(None, "finding the images", quiet=quiet) as bar:
        images = []
        for image in _at_random(source):
            images.append(image)
            bar.advance(1)
    if not images:
        raise NoImages(f"no images in '{root}': no member of its archives is named like one (docs/sources.md).")
    first = images[0]
    if isinstance(first, Unreadable) and all(isinstance(image, Unreadable) for image in images):
        raise NoImages(f"no images in '{root}' that can be read; {first.name}: {first.message}.")
    if len(images) == 1 and isinstance(first, ImageFile) and Path(first.path) == Path(place):
        raise UsageError(
            f"'{root}' is one file, and no tar, Parquet file or list. Training needs many images (docs/sources.md)."
        )
    return ImageSource(root, images, reading=with_measured_range(images, PLAIN))


def _at_random(source: Source) -> Iterator[Entry]:
    """The entries of a source, each such that it can be opened again and again."""
    spool: Spool | None = None
    for stays, entries in groupby(source.entries(), lambda entry: isinstance(entry, ImageFile | Member | Unreadable)):
        if stays:
            yield from entries
            continue
        spool = spool or Spool(_size(source))
        for entry, data in decode_ahead(_fetched, entries, FETCHED_TOGETHER, 2 * FETCHED_TOGETHER):
            yield entry if data is None else spool.add(entry.name, data)


def _fetched(entry: Entry) -> tuple[Entry, bytes | None]:
    """With its bytes; or what says why there are none."""
    try:
        file = entry.open()
        assert not isinstance(file, Path), "files stay where they are"
        with file:
            return entry, file.read()
    except UnreadableImage as error:
        return Unreadable(entry.name, error.kind, error.message), None


def _size(source: Source) -> int | None:
    """Bytes of the files that the images lie in; None where somebody does not tell."""
    match source:
        case Archives():
            sizes = [file.size for file in source.files]
        case Rows():
            sizes = [part.file.size for part in source.parts]
        case _:
            return None
    return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass(frozen=True)
class Views:
    """Random resized crops of a batch, on the device; and what is drawn for their colours.

    Attributes:
        index: (N,) int64, which image each row really is.
        first, second: (N, 3, S, S) uint8, in any memory order.
        draws: of both and of the small ones, on the CPU.
        small: (N, 3, s, s) uint8 each, smaller ones (method.md §1).
    """

    index: Tensor
    first: Tensor
    second: Tensor
    draws: tuple[ViewDraws, ...]
    small: tuple[Tensor, ...] = ()


class Loader(Protocol):
    """Images to batches on the device, in order; resident.py and streamed.py have one each.

    Closing what it yields from ends its threads.
    """

    @property
    def source(self) -> ImageSource: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def workers(self) -> int: ...
    def at(self, size: int) -> "Loader":
        """The same, with squares of another side, in pixels."""

    def views(self, batches: Iterable[Batch]) -> Generator[Views, None, None]:
        """Random resized crops of each image, as drawn; the next readable image in place of an unreadable one."""

    def squares(self, batches: Iterable[Sequence[int]]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The evaluation transform: (N, S, S, 3) uint8, and (N,) bool, which could be read; the others are black.

        The pixels are on the device, and which could be read is on the CPU.
        """
