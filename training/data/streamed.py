"""Images that stay where they are: threads decode and crop each batch anew, a few ahead. N images,
S side.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.data import Views, read_or_next
from pauc_hub.training.data.ahead import empty, fill_ahead, send_ahead
from pauc_hub.training.data.crops import cut
from pauc_hub.training.data.views import Batch

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Streamed:
    """A Loader that holds a few batches."""

    source: ImageSource
    preprocessing: Preprocessing
    workers: int
    device: torch.device

    def at(self, size: int) -> "Streamed":
        return replace(self, preprocessing=replace(self.preprocessing, size=size))

    def views(self, batches: Iterable[Batch]) -> Generator[Views, None, None]:
        def with_room() -> Iterator[tuple[Batch, Tensors]]:
            for batch in batches:
                shapes = ((len(batch), draws.size, draws.size, 3) for draws in batch.draws)
                crops = (empty(shape, torch.uint8, self.device) for shape in shapes)
                yield batch, (empty((len(batch),), torch.int64, self.device), *crops)

        def fill(batch: Batch, room: Tensors, row: int) -> None:
            at, picture = read_or_next(self.source, int(batch.index[row]))
            room[0][row] = at
            for crops, draws in zip(room[1:], batch.draws, strict=True):
                crops.numpy()[row] = cut(picture, draws, row)

        with closing(send_ahead(fill_ahead(with_room(), fill, self.workers), self.device)) as sent:
            for batch, (index, *crops) in sent:
                first, second, *small = (each.permute(0, 3, 1, 2) for each in crops)
                yield Views(index, first, second, batch.draws, tuple(small))

    def squares(
        self, batches: Iterable[Sequence[int]]
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        size = self.preprocessing.size

        def with_room() -> Iterator[tuple[tuple[Sequence[int], Tensor], Tensors]]:
            for batch in batches:
                readable = torch.empty(len(batch), dtype=torch.bool)
                yield (
                    (batch, readable),
                    (empty((len(batch), size, size, 3), torch.uint8, self.device),),
                )

        def fill(asked: tuple[Sequence[int], Tensor], room: Tensors, row: int) -> None:
            picture = self.source.read(asked[0][row])
            asked[1][row] = picture is not None
            if picture is None:
                picture = Image.new("RGB", (size, size))
            image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
            room[0].numpy()[row] = self.preprocessing.square(image)

        with closing(send_ahead(fill_ahead(with_room(), fill, self.workers), self.device)) as sent:
            for (_, readable), (pixels,) in sent:
                yield pixels, readable
