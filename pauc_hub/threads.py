"""Work that threads do ahead of whoever needs it, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pauc_hub.processes import default_workers

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def decode_ahead(
    read: Callable[[_Item], _Result], items: Iterable[_Item], workers: int | None, ahead: int
) -> Generator[_Result]:
    """Results of `read` in order, worked out by threads that are never more than `ahead` items
    further.

    Threads suffice: the decoders and the resizing let other threads run meanwhile.

    Args:
        workers: how many threads; one for each core unless given.
    """
    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode")
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
