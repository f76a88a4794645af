"""What the loop asks for and gets: batches of views, squares. N images of a batch, S side."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pauc_hub.errors import TrainingFailed
from pauc_hub.images.jpeg import Picture
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.data.views import Batch, ViewDraws

# neighbours tried in place of an unreadable image before giving up
TRIES = 100


def read_or_next(source: ImageSource, index: int) -> tuple[int, Picture]:
    """The image, or the next readable one in its place, with the index that it really has.

    Raises:
        TrainingFailed: none of the 100 from there on can be read.
    """
    tries = min(TRIES, len(source))
    for offset in range(tries):
        at = (index + offset) % len(source)
        image = None if at in source.unreadable else source.read(at)
        if image is not None:
            return at, image
    raise TrainingFailed(
        f"none of {tries} images from '{source.names[index]}' on can be read "
        f"({source.unreadable[index]}). "
        f"Is '{source.root}' intact?"
    )


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
        """Random resized crops of each image, as drawn; the next readable image in place of an
        unreadable one.
        """

    def squares(
        self, batches: Iterable[Sequence[int]]
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The evaluation transform: (N, S, S, 3) uint8, and (N,) bool, which could be read; the
        others are black.

        The pixels are on the device, and which could be read is on the CPU.
        """
