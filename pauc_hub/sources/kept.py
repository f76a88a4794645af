"""A walk written down once, in a file without a name: gone through again it is the same, whatever
changed meanwhile.
"""

import gzip
import hashlib
import io
import os
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from tempfile import TemporaryFile
from typing import cast
from weakref import finalize

from pauc_hub.sources.contract import Entry, Listing

AT_ONCE = 1024  # entries written together: one by one, writing takes longer than finding them


class Kept:
    """Entries on disk, a few bytes each, so that a million takes no memory."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        entries = iter(entries)
        unnamed = TemporaryFile()  # noqa: SIM115 (lives as long as this)
        finalize(self, unnamed.close)
        self._descriptor = unnamed.fileno()
        digest, images = hashlib.sha256(), 0
        with gzip.GzipFile(fileobj=unnamed, mode="wb", compresslevel=1) as file:
            for some in iter(lambda: list(islice(entries, AT_ONCE)), []):
                pickle.dump(some, file)
                digest.update("".join(f"{entry.name}\0" for entry in some).encode())
                images += len(some)
        unnamed.flush()
        self.listing = Listing(images, digest.hexdigest())

    def __iter__(self) -> Iterator[Entry]:
        with gzip.GzipFile(
            fileobj=io.BufferedReader(_Positioned(self._descriptor)), mode="rb"
        ) as file:
            for _ in range(0, self.listing.images or 0, AT_ONCE):
                # what was written above, by this very process
                yield from cast(list[Entry], pickle.load(file))


class _Positioned(io.RawIOBase):
    """The file from its beginning, with a position of its own, since there may be several at
    once.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = os.preadv(self._descriptor, [buffer], self._position)
        self._position += read
        return read
