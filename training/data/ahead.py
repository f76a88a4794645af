"""Work ahead of the device: batches that threads fill, and transfers that nobody waits for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import torch
from torch import Tensor

from pauc_hub.device import send

MOST_WAITING = 4
_Item = TypeVar("_Item")
Job = tuple[_Item, tuple[Tensor, ...]]  # what a batch is of, and its tensors


def fill_ahead(
    jobs: Iterable[Job[_Item]], fill: Callable[[_Item, tuple[Tensor, ...], int], None], workers: int
) -> Generator[Job[_Item], None, None]:
    """Jobs in their order, a few ahead, after threads have called `fill` for each row of their
    tensors.

    Closing it ends the threads.
    """

    def part(item: _Item, tensors: tuple[Tensor, ...], rows: range) -> None:
        for row in rows:
            fill(item, tensors, row)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[tuple[Job[_Item], list[Future[None]]]] = deque()
    try:
        for item, tensors in jobs:
            parts = (range(first, len(tensors[0]), workers) for first in range(workers))
            waiting.append(
                ((item, tensors), [pool.submit(part, item, tensors, rows) for rows in parts])
            )
            if len(waiting) > MOST_WAITING:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(job: Job[_Item], parts: list["Future[None]"]) -> Job[_Item]:
    for part in parts:
        part.result()
    return job


def send_ahead(
    jobs: Generator[Job[_Item], None, None], device: torch.device
) -> Generator[Job[_Item], None, None]:
    """Jobs with their tensors on the device; to a GPU the next one is on its way while one is
    worked on.
    """
    with closing(jobs):
        if device.type != "cuda":
            yield from (
                (item, tuple(tensor.to(device) for tensor in tensors)) for item, tensors in jobs
            )
            return
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        waiting: deque[tuple[Job[_Item], torch.cuda.Event]] = deque()
        for item, tensors in jobs:
            with torch.cuda.stream(stream):
                waiting.append(
                    (
                        (item, tuple(send(tensor, device) for tensor in tensors)),
                        stream.record_event(),
                    )
                )
            if len(waiting) > 1:
                yield _arrived(*waiting.popleft(), device)
        while waiting:
            yield _arrived(*waiting.popleft(), device)


def _arrived(job: Job[_Item], sent: "torch.cuda.Event", device: torch.device) -> Job[_Item]:
    """The GPU, not the CPU, waits for the transfer; and the allocator is told who uses the
    memory.
    """
    current = torch.cuda.current_stream(device)
    current.wait_event(sent)
    for tensor in job[1]:
        tensor.record_stream(current)
    return job


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory on the CPU to fill, from which a transfer to the device need not wait."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
