"""Images to features: the loop that embedding, the E-step and kNN while training share.

N images of a batch, S side, D width.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TypeVar

import torch
from torch import Tensor

from pauc_hub.device import autocast, send
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.threads import decode_ahead

_Batch = TypeVar("_Batch")


def features(
    encode: Callable[[_Batch], Tensor], batches: Iterable[_Batch], *, lanes: int = 0
) -> Generator[tuple[Tensor, _Batch]]:
    """The rows of each batch, beside it, in order.

    Args:
        encode: a batch to (N, D) rows; what it raises ends the loop.
        lanes: threads that each encode a batch while the rows of others are waited for, and whose
            rows come to the CPU; device.side_by_side() says how many do well. With 0, batches are
            encoded here, one after another, and the rows stay on their device.
    """
    if lanes == 0:
        for batch in batches:
            yield encode(batch), batch
        return

    def launch(batch: _Batch) -> tuple[Callable[[], Tensor], _Batch]:
        return _on_its_way(encode(batch)), batch

    with closing(decode_ahead(launch, batches, workers=lanes, ahead=lanes + 1)) as launched:
        for arrived, batch in launched:
            yield arrived(), batch


def _on_its_way(rows: Tensor) -> Callable[[], Tensor]:
    """Rows to the CPU; a GPU goes on by itself until they are asked for."""
    if not rows.is_cuda:
        return rows.cpu
    copied = torch.empty(rows.shape, pin_memory=True).copy_(rows, non_blocking=True)
    there = torch.cuda.current_stream(rows.device).record_event()

    def arrived() -> Tensor:
        there.synchronize()
        return copied

    return arrived


def encode_squares(
    network: Callable[[Tensor], Tensor],
    squares: Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Squares of bytes through a network in evaluation mode.

    Args:
        network: (N, 3, S, S) to (N, D).
        squares: (N, S, S, 3) uint8 on any device.
        dtype: of the matrix products.

    Returns:
        (N, D) float32 on the device.
    """
    pixels = preprocessing.normalise(send(squares, device), dtype)
    with autocast(device, dtype):
        return network(pixels).float()
