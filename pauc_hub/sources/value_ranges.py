"""The value range of a whole source, measured on some of its images before the first is used."""

import heapq
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from pauc_hub.images.decoding import UnreadableImage, read_numbers
from pauc_hub.images.formats import NEVER_DEEP
from pauc_hub.images.reading import PLAIN, Range, Reading, measured
from pauc_hub.processes import default_workers
from pauc_hub.sources.contract import Entry, Source
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.walked import Walked

MEASURED = 256  # images of each storage type, at most
LOOKED_AT = 1024  # images of each suffix, at most
# images without a deep one before giving up: files on disk, and what must be fetched
PATIENCE = {True: 256, False: 32}
TOGETHER = 32
PIXELS_EACH = 1 << 14

Sample = tuple[str, npt.NDArray[np.float64]]
"""Storage type, and finite numbers (n,), of one image."""


def with_measured_range(
    source: Source | Sequence[Entry],
    reading: Reading,
    workers: int | None = None,
    learnt: Reading = PLAIN,
) -> Reading:
    """The reading for a source: where it gives no value range, with those that the images need and
    no file tells.

    Of each suffix under which deep images are found, some are looked at, chosen by a hash of their
    names; of archives and Parquet files the first ones. Photographs cost a look at a few heads, and
    change nothing.

    Args:
        source: the whole, so that all processes that share it find the same; or a list of images.
        learnt: that a model was trained with, which goes before what is measured.
    """
    reading = replace(reading, bands=reading.bands or learnt.bands)
    if reading.value_range is not None:
        return reading
    found: dict[str, list[npt.NDArray[np.float64]]] = defaultdict(list)
    with ThreadPoolExecutor(workers or default_workers()) as pool:
        for group in _groups(source):
            _measure(pool, group, reading.bands, found)
    ranges: dict[str, Range] = {
        storage: measured(storage, values) for storage, values in found.items()
    }
    if ranges and learnt.value_range is not None and not isinstance(learnt.value_range, Mapping):
        return replace(reading, value_range=learnt.value_range)
    if isinstance(learnt.value_range, Mapping):
        ranges |= {
            storage: limits for storage, limits in learnt.value_range.items() if storage in ranges
        }
    return replace(reading, value_range=ranges or None)


def _groups(source: Source | Sequence[Entry]) -> Iterator[Iterable[Entry]]:
    """Images of the same suffix, in the order in which to look at them."""
    if not isinstance(source, Walked | Sequence):
        yield islice(source.entries(), LOOKED_AT)
        return
    chosen: dict[str, list[tuple[int, str, Entry]]] = defaultdict(list)

    def choose(entry: Entry) -> None:
        suffix = entry.name[entry.name.rfind(".") :].lower()
        if suffix in NEVER_DEEP:
            return
        heap, rank = chosen[suffix], -zlib.crc32(entry.name.encode())
        if len(heap) < LOOKED_AT:
            heapq.heappush(heap, (rank, entry.name, entry))
        elif rank > heap[0][0]:
            heapq.heapreplace(heap, (rank, entry.name, entry))

    if isinstance(source, Walked):
        source.listing(choose)  # the run does not walk the folders again
    else:
        for entry in source:
            choose(entry)
    for _, heap in sorted(chosen.items()):
        yield [entry for _, _, entry in sorted(heap, reverse=True)]


def _measure(
    pool: ThreadPoolExecutor,
    entries: Iterable[Entry],
    bands: tuple[int, ...],
    found: dict[str, list[npt.NDArray[np.float64]]],
) -> None:
    """Add to what was found, until it is enough."""
    looked_at, deep, entries = 0, set[str](), iter(entries)
    while some := list(islice(entries, TOGETHER)):
        for sample in pool.map(lambda entry: _sample(entry, bands), some):
            if sample and len(found[sample[0]]) < MEASURED:
                deep.add(sample[0])
                found[sample[0]].append(sample[1])
        looked_at += len(some)
        if not deep and looked_at >= PATIENCE[isinstance(some[0], ImageFile)]:
            return
        if deep and all(len(found[storage]) >= MEASURED for storage in deep):
            return


def _sample(entry: Entry, bands: tuple[int, ...]) -> Sample | None:
    try:
        numbers = read_numbers(entry.open(), bands)
    except (UnreadableImage, OSError):  # the run will say so
        return None
    if numbers is None:
        return None
    storage, values = numbers
    pixels = values.reshape(-1, values.shape[2])
    some = pixels[:: max(1, len(pixels) // PIXELS_EACH)].astype(np.float64).ravel()
    finite = some[np.isfinite(some)]
    return (storage, finite) if len(finite) else None
