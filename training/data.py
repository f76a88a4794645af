"""Image sources to batches: decoded and cropped in threads, ahead of the device. N images of a batch, S side."""

import contextlib
import hashlib
import os
import tarfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pauc_hub.errors import NoImages, TrainingFailed, UsageError
from pauc_hub.images import SUFFIXES, UnreadableImage, find_images, read_image, readable
from pauc_hub.preprocess import Preprocessing
from pauc_hub.training.draws import Purpose, numpy_draws

Row = TypeVar("Row")
Pixels = npt.NDArray[np.uint8]
TRIES = 100  # neighbours tried in place of an unreadable image before giving up
BATCHES_AHEAD = 4


@dataclass(frozen=True)
class TarMember:
    """A file inside an uncompressed tar: read in place, nothing is unpacked."""

    archive: Path
    offset: int
    length: int

    def open(self) -> BytesIO:
        with self.archive.open("rb") as file:
            return BytesIO(os.pread(file.fileno(), self.length, self.offset))


@dataclass
class ImageSource:
    """All images of a run, by index, in the order of their names.

    Attributes:
        names: of each image, relative to the root (a tar's members: `archive.tar/member`).
        unreadable: indices that could not be decoded so far, and why.
    """

    root: Path
    names: list[str]
    places: list[Path | TarMember]
    unreadable: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Image.Image | None:
        """The image, upright RGB; None where it cannot be read, which is remembered."""
        place = self.places[index]
        try:
            return read_image(place.open() if isinstance(place, TarMember) else place)
        except (UnreadableImage, OSError) as error:
            self.unreadable[index] = str(error)
            return None

    def read_or_next(self, index: int) -> tuple[int, Image.Image]:
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


def open_source(root: Path) -> ImageSource:
    """A folder of images (any nesting), a tar file, or a folder of tar files.

    Raises:
        NoImages, UsageError: nothing there that could be trained on.
    """
    archives = [root] if root.is_file() else _archives(root)
    if not archives:
        found = find_images(root)
        return ImageSource(root, [image.name for image in found], [image.path for image in found])
    if root.is_dir() and _holds_images(root):
        raise UsageError(f"'{root}' holds tar files ({archives[0].name}) beside images. Give one kind or the other.")
    members = [(f"{archive.name}/{name}", place) for archive in archives for name, place in _tar_images(archive)]
    if not members:
        raise NoImages(f"no images in '{root}': no tar member there ends in {', '.join(sorted(SUFFIXES))}.")
    members.sort(key=lambda member: member[0])
    return ImageSource(root, [name for name, _ in members], [place for _, place in members])


def _archives(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*.tar") if path.is_file() and not path.name.startswith("."))


def _holds_images(root: Path) -> bool:
    with contextlib.suppress(NoImages):
        return bool(find_images(root))
    return False


def _tar_images(archive: Path) -> Iterator[tuple[str, TarMember]]:
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                hidden = any(part.startswith(".") for part in Path(member.name).parts if part not in (".", ".."))
                if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES and not hidden:
                    yield readable(member.name), TarMember(archive, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise UsageError(
            f"'{archive}' is neither a folder nor a readable uncompressed tar ({error}). "
            "Unpack it, or write it anew without compression."
        ) from error


@dataclass(frozen=True)
class TwoViews:
    """Random resized crops of a batch, twice.

    Attributes:
        index: (N,) int64, which image each row really is.
        first, second: (N, S, S, 3) uint8.
    """

    index: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Loader:
    """Reads a source in threads (the decoder lets go of the interpreter's lock), a few batches ahead, in order.

    Closing what it yields from ends the threads.
    """

    source: ImageSource
    preprocessing: Preprocessing
    workers: int

    def views(
        self, batches: Sequence[Sequence[int]], crop_min: float, seed: int, epoch: int
    ) -> Generator[TwoViews, None, None]:
        """Two random resized crops of each image; an image's crops depend on (seed, epoch, image) alone."""
        size = self.preprocessing.size

        def one(index: int) -> tuple[int, Pixels, Pixels]:
            at, image = self.source.read_or_next(index)
            draws = numpy_draws(seed, Purpose.CROPS, epoch, at)
            first, second = (random_resized_crop(image, size, crop_min, draws) for _ in range(2))
            return at, first, second

        for rows in self._read_ahead(batches, one):
            index, first, second = zip(*rows, strict=True)
            yield TwoViews(torch.tensor(index), _stacked(first), _stacked(second))

    def squares(self, batches: Sequence[Sequence[int]]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The evaluation transform: (N, S, S, 3) uint8, and (N,) bool, which could be read; the others are black."""
        size = self.preprocessing.size

        def one(index: int) -> tuple[bool, Pixels]:
            image = self.source.read(index)
            if image is None:
                return False, np.zeros((size, size, 3), np.uint8)
            return True, self.preprocessing.square(image)

        for rows in self._read_ahead(batches, one):
            readable, pixels = zip(*rows, strict=True)
            yield _stacked(pixels), torch.tensor(readable)

    def _read_ahead(
        self, batches: Sequence[Sequence[int]], one: Callable[[int], Row]
    ) -> Generator[list[Row], None, None]:
        def part(indices: Sequence[int]) -> list[Row]:
            return [one(index) for index in indices]

        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        waiting: deque[list[Future[list[Row]]]] = deque()
        try:
            for batch in batches:
                waiting.append([pool.submit(part, batch[i :: self.workers]) for i in range(self.workers)])
                if len(waiting) > BATCHES_AHEAD:
                    yield _interleaved(waiting.popleft())
            while waiting:
                yield _interleaved(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _interleaved(parts: list["Future[list[Row]]"]) -> list[Row]:
    """Rows in the batch's own order again, after each worker took every w-th."""
    lists = [part.result() for part in parts]
    return [lists[i % len(lists)][i // len(lists)] for i in range(sum(len(each) for each in lists))]


def random_resized_crop(image: Image.Image, size: int, smallest: float, draws: np.random.Generator) -> Pixels:
    """torchvision's RandomResizedCrop (area in [smallest, 1], aspect 3/4 to 4/3, ten tries, then the centre), bilinear.

    Returns:
        (size, size, 3) uint8.
    """
    width, height = image.size
    box = _random_box(width, height, smallest, draws) or _central_box(width, height)
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BILINEAR))


def _random_box(
    width: int, height: int, smallest: float, draws: np.random.Generator
) -> tuple[int, int, int, int] | None:
    areas = width * height * draws.uniform(smallest, 1.0, 10)
    aspects = np.exp(draws.uniform(np.log(3 / 4), np.log(4 / 3), 10))
    for area, aspect in zip(areas, aspects, strict=True):
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draws.integers(width - w + 1)), int(draws.integers(height - h + 1))
            return left, top, left + w, top + h
    return None


def _central_box(width: int, height: int) -> tuple[int, int, int, int]:
    w = max(1, min(width, round(height * 4 / 3)))
    h = max(1, min(height, round(width * 4 / 3)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _stacked(pixels: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))
