"""Images that lie decoded on the device, where batches are cut from them. N images, H height, W
width, S side.
"""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pauc_hub.device import send
from pauc_hub.errors import Interrupted
from pauc_hub.images.jpeg import size_of
from pauc_hub.images.preprocessing import LONGEST_ASPECT, Preprocessing
from pauc_hub.progress import progress_bar
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.data import Loader, Views, read_or_next
from pauc_hub.training.data.ahead import fill_ahead
from pauc_hub.training.data.crops import boxes, cut_batch
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.data.views import Batch, ViewDraws
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.machine import free_device_memory

SHARE = 0.25  # of the memory that is free, at most, for the images
LARGEST = 2  # sides of the images to that of the views, at most: the products' cost rises with both
LOOKED_AT = 16  # images whose size is read before all are
READ_TOGETHER = 256


@dataclass(frozen=True)
class Resident:
    """A Loader that holds all images.

    Attributes:
        workers: threads that read them.
        images: (n, H, 3, W) uint8 on the device; in this order crops are two plain matrix products.
        stand_ins: (n,) int64 on the CPU, the image itself, or the next readable one.
        readable: (n,) bool, on the CPU.
        seconds: that reading took.
    """

    source: ImageSource
    preprocessing: Preprocessing
    workers: int
    images: Tensor
    stand_ins: Tensor
    readable: Tensor
    seconds: float

    def at(self, size: int) -> "Resident":
        return replace(self, preprocessing=replace(self.preprocessing, size=size))

    def views(self, batches: Iterable[Batch]) -> Generator[Views, None, None]:
        for batch in batches:
            # a rehearsal holds the first of them alone
            index = self.stand_ins[batch.index % len(self.images)]
            there = send(index, self.images.device)
            chosen = self.images[there]
            first, second, *small = (self._cut(chosen, draws) for draws in batch.draws)
            yield Views(there, first, second, batch.draws, tuple(small))

    def _cut(self, chosen: Tensor, draws: ViewDraws) -> Tensor:
        _, height, _, width = chosen.shape
        found = torch.from_numpy(boxes(draws, width, height))
        edges, mirrored = (send(each, chosen.device) for each in (found, draws.mirrored))
        return cut_batch(chosen, edges, mirrored, draws.size)

    def squares(
        self, batches: Iterable[Sequence[int]]
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        for batch in batches:
            rows = torch.tensor(batch, dtype=torch.int64) % len(self.images)
            planes = self.images[send(rows, self.images.device)].permute(0, 2, 1, 3)
            yield self.preprocessing.quick_squares(planes), self.readable[rows]


def choose_loader(
    source: ImageSource,
    preprocessing: Preprocessing,
    workers: int,
    device: torch.device,
    stop: StopRequest,
    processes: int = 1,
    *,
    quiet: bool,
    most: int | None = None,
) -> Loader:
    """Hold all images where they have one size, not much above that of the views, and fit the
    memory; else stream them.

    Args:
        processes: that share the run; each has a GPU of its own, or else a part of the machine's
            memory.
        most: images that are read at most; they stand in for the others.

    Raises:
        Interrupted: a stop was asked for.
        TrainingFailed: too many that cannot be read in a row.
    """
    of_each, count = _one_size(source), min(len(source), most or len(source))
    if of_each is not None and _fits(
        of_each,
        preprocessing.size,
        len(source) * (1 if device.type == "cuda" else processes),
        device,
    ):
        with suppress(_Differs):
            return _read(source, preprocessing, workers, device, stop, count, of_each, quiet)
    return Streamed(source, preprocessing, workers, device)


def _fits(size: tuple[int, int], view: int, images: int, device: torch.device) -> bool:
    small = max(size) <= min(LARGEST * view, LONGEST_ASPECT * min(size))
    return small and 3 * math.prod(size) * images <= SHARE * free_device_memory(device)


class _Differs(Exception):
    """An image is of another size than those before it."""


def _one_size(source: ImageSource) -> tuple[int, int] | None:
    """Width and height of all of some images, spread evenly; None where they differ or none can be
    read.
    """
    pictures = (
        source.read(index) for index in range(0, len(source), math.ceil(len(source) / LOOKED_AT))
    )
    sizes = {size_of(picture) for picture in pictures if picture is not None}
    return sizes.pop() if len(sizes) == 1 else None


def _read(
    source: ImageSource,
    preprocessing: Preprocessing,
    workers: int,
    device: torch.device,
    stop: StopRequest,
    count: int,
    size: tuple[int, int],
    quiet: bool,
) -> Resident:
    began, (width, height) = time.monotonic(), size
    images = torch.empty((count, height, 3, width), dtype=torch.uint8, device=device)
    readable = torch.ones(count, dtype=torch.bool)

    def with_room() -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        for start in range(0, count, READ_TOGETHER):
            rows = range(start, min(count, start + READ_TOGETHER))
            yield rows, (torch.zeros((len(rows), *images.shape[1:]), dtype=torch.uint8),)

    def fill(rows: range, room: tuple[Tensor, ...], row: int) -> None:
        picture = source.read(rows[row])
        if picture is None:
            readable[rows[row]] = False
            return
        if size_of(picture) != size:
            raise _Differs
        room[0].numpy()[row] = np.asarray(picture).transpose(0, 2, 1)

    with (
        closing(fill_ahead(with_room(), fill, workers)) as filled,
        progress_bar(count, "reading the images into memory", quiet=quiet) as bar,
    ):
        for rows, (pixels,) in filled:
            images[rows.start : rows.stop] = pixels
            bar.advance(len(rows))
            if stop.requested:
                raise Interrupted(
                    "stopped while the images were read into memory; nothing was learnt meanwhile."
                )
    stand_ins = torch.arange(count)
    for index in (~readable).nonzero().flatten().tolist():
        stand_ins[index] = read_or_next(source, index)[0] % count
    return Resident(
        source, preprocessing, workers, images, stand_ins, readable, time.monotonic() - began
    )
