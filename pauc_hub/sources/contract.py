"""What every source of images is: a list that is walked, again and again, in one order, and never
held.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol


class Entry(Protocol):
    """One image."""

    @property
    def name(self) -> str:
        """As it stands in the table: relative to the root, `/` between its parts, readable() as all
        of it.
        """

    @property
    def reopenable(self) -> bool:
        """Whether it can be opened again and again, at little cost, and takes no memory
        meanwhile.
        """

    def open(self) -> Path | BinaryIO:
        """For read_with(); made to be called in a decoding thread.

        Raises:
            OSError, UnreadableImage: it cannot be had; nothing else is raised.
        """

    def read_bytes(self) -> bytes:
        """All of the encoded image; raises what open() raises."""

    def modified(self) -> float | None:
        """Seconds since 1970, of a local file; None for everything else.

        Raises:
            OSError: it is not there, or may not be looked at.
        """


class Listing(NamedTuple):
    """How much there is, and a mark that changes when it does."""

    images: int | None
    """None where counting would mean to read everything."""
    sha256: str


class Source(Protocol):
    """Images in an order that stays the same as long as nobody changes them."""

    @property
    def root(self) -> str:
        """For provenance: an absolute path, or a URL without credentials."""

    @property
    def size(self) -> int | None:
        """Bytes of the files that hold the images; None where that is not told, or where each image
        is a file.
        """

    def listing(self) -> Listing:
        """Look once at all that can be told without reading images."""

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The images from the `start`-th on, found while they are asked for."""

    def share(self, rank: int, ranks: int) -> "Source":
        """The part of one rank. The parts in the order of ranks are the whole, each image once;
        some may be empty.
        """


def fingerprint(marks: Iterable[str]) -> str:
    """One sum of them all, in their order."""
    digest = hashlib.sha256()
    for mark in marks:
        digest.update(mark.encode() + b"\0")
    return digest.hexdigest()
