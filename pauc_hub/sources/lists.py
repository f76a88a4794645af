"""A text file with one path or URL a line, each of an image; or each of a tar, or of a Parquet
file.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.sources import local, remote
from pauc_hub.sources.contract import Source
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.kinds import of_files
from pauc_hub.sources.remote import RemoteFile
from pauc_hub.sources.stored import File, Unavailable, public

SUFFIX_OF_LISTS = ".txt"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Listed = ImageFile | RemoteFile | Unavailable


def open_list(place: str, lines: Callable[[], BinaryIO], column: str | None = None) -> Source:
    """The files that a list names, in its order; what is no absolute path begins where the list
    lies.

    Raises:
        NoImages: the list is empty.
    """
    base = place.rpartition("/")[0]
    root = public(base) if remote.is_url(place) else local.absolute(Path(place).parent)

    def walk() -> Iterator[Listed]:
        with lines() as file:
            yield from (_listed(line, base) for line in _lines(file))

    first = next(walk(), None)
    if first is None:
        raise NoImages(f"no images in '{readable(public(place))}': the list is empty.")
    return of_files(root, first, walk, _stored, column)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        if text := line.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n"):
            yield text


def _listed(line: bytes, base: str) -> Listed:
    text = os.fsdecode(line)
    if "\0" in text:
        return Unavailable(
            readable(text), "missing", "a path with a zero byte; lists are text in UTF-8"
        )
    if remote.is_url(text):
        return remote.named(text)
    if remote.is_url(base):
        return remote.named(f"{base}/{text}", readable(text))
    return ImageFile(readable(text), str(Path(base, text)))


def _stored(files: Sequence[Listed]) -> list[File]:
    return [_one_stored(file) for file in files]


def _one_stored(file: Listed) -> File:
    match file:
        case ImageFile():
            return local.local_files([file])[0]
        case RemoteFile():
            return remote.remote_files([file])[0]
    raise UsageError(f"'{file.name}': {file.message}.")
