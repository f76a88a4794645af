"""Work ahead: in order, never further than asked, and ended with its consumer."""

import threading
import time
from collections.abc import Iterator

import pytest

from pauc_hub.threads import decode_ahead


def test_results_come_in_order_however_long_each_takes() -> None:
    def read(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return -item

    assert list(decode_ahead(read, range(20), workers=4, ahead=6)) == [-item for item in range(20)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 3), (8, 4)])
def test_never_further_ahead_than_asked(workers: int, ahead: int) -> None:
    begun, lock = 0, threading.Lock()

    def read(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return item

    for taken, _ in enumerate(decode_ahead(read, range(50), workers, ahead), start=1):
        time.sleep(0.001)
        assert taken <= begun < taken + ahead


def test_a_listing_without_end_is_no_problem() -> None:
    def forever() -> Iterator[int]:
        item = 0
        while True:
            yield item
            item += 1

    results = decode_ahead(lambda item: item, forever(), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()


def test_threads_end_with_the_consumer() -> None:
    before = threading.active_count()
    results = decode_ahead(lambda item: time.sleep(0.01), range(1000), workers=4, ahead=100)
    next(results)
    results.close()
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # those of an earlier test may end meanwhile
