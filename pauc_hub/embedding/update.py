"""What an earlier table lacks of a folder: images that came or changed since are embedded, the
others taken over.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pauc_hub.embedding.shards import Outcomes
from pauc_hub.errors import UsageError
from pauc_hub.sources import Entry, Listing, Source


class Row(NamedTuple):
    """One image's row of a table."""

    path: str
    embedding: npt.NDArray[np.float32]  # (D,)
    size: npt.NDArray[np.int32]  # (2,) width, height as seen
    sum: str | None
    """sha256 of its bytes; None where nobody knows it."""


@dataclass(frozen=True)
class Additions:
    """The images of a source that a table of it lacks, or that changed since; itself a source."""

    source: Source
    names: Callable[[], Iterator[str]]
    """Of the table's images, in order; asked anew for each pass."""
    newest: float
    """When the last changed of the table's images was changed; one that changed later is embedded
    again.
    """

    @property
    def root(self) -> str:
        return self.source.root

    @property
    def size(self) -> int | None:
        return self.source.size

    def listing(self) -> Listing:
        digest, count = hashlib.sha256(b"additions"), 0
        for entry in self.entries():
            digest.update(entry.name.encode() + b"\0")
            count += 1
        return Listing(count, digest.hexdigest())

    def entries(self, start: int = 0) -> Iterator[Entry]:
        return islice(self._entries(), start, None)

    def share(self, rank: int, ranks: int) -> Source:
        return replace(self, source=self.source.share(rank, ranks))

    def _entries(self) -> Iterator[Entry]:
        known = _Ahead(_Named(name) for name in self.names())
        for entry in self.source.entries():
            if known.find(entry.name) is None or self._changed(entry):
                yield entry

    def _changed(self, entry: Entry) -> bool:
        try:
            modified = entry.modified()
        except OSError:  # reading it will tell why
            return True
        if modified is None:
            raise UsageError(
                f"update=True goes by when files were changed, which '{self.root}' does not tell."
            )
        return modified > self.newest


def merged(
    entries: Iterable[Entry],
    earlier: Iterable[Row],
    added: Iterable[Outcomes],
    missing: Callable[[Entry], str | None] = lambda _: None,
) -> Iterator[Row]:
    """The rows of `entries`, in that order: the added ones, and of the others what the earlier
    table has.

    Args:
        missing: works out the sum of an image that the earlier table has none of.
    """
    old, new = _Ahead(earlier), _Ahead(outcome for part in added for outcome in _in_order(part))
    for entry in entries:
        row = new.find(entry.name) or old.find(entry.name)
        if isinstance(row, Row):  # neither, or an unreadable one: it has none
            yield row if row.sum else row._replace(sum=missing(entry))


def together(rows: Iterator[Row], count: int) -> Iterator[Outcomes]:
    """Rows joined, `count` at a time."""
    while group := list(islice(rows, count)):
        embeddings = np.stack([row.embedding for row in group])
        sizes = np.stack([row.size for row in group])
        yield Outcomes(
            [row.path for row in group], embeddings, sizes, [row.sum for row in group], [], 0.0
        )


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


class _Named(NamedTuple):
    path: str


_Item = TypeVar("_Item", bound=_HasPath)


class _Ahead(Generic[_Item]):
    """Items in the order of their paths, looked up in that order too."""

    def __init__(self, items: Iterable[_Item]) -> None:
        self._items = iter(items)
        self._next = next(self._items, None)

    def find(self, path: str) -> _Item | None:
        """The item of that path; what lies before it is dropped."""
        while self._next is not None and self._next.path < path:
            self._next = next(self._items, None)
        return self._next if self._next is not None and self._next.path == path else None


def _in_order(part: Outcomes) -> Iterator[_HasPath]:
    rows = map(Row, part.paths, part.embeddings, part.sizes, part.sums)
    return merge(rows, part.unreadable, key=attrgetter("path"))
