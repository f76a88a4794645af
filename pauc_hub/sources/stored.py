"""Files that hold many images, the images taken from them, and fair parts of both."""

import re
import tarfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, pairwise
from typing import BinaryIO, ClassVar

from pauc_hub.images.decoding import SYSTEM_KINDS, UnreadableImage

# bytes of one image: what the largest that is decoded takes, uncompressed and in 16 bits
LARGEST_IMAGE = 1 << 30
# OSError: of Arrow and gzip, without a number
DAMAGE = (EOFError, OSError, ValueError, tarfile.TarError, zlib.error)
URL = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/\s]*@)?([^\s?#'\"]*)[^\s'\"]*", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """A file, wherever it lies, that holds images."""

    name: str
    """As an entry's; it begins the names of the images inside."""
    size: int | None
    """Bytes; None where the server does not tell."""
    open: Callable[[], BinaryIO]
    stream: Callable[[], BinaryIO] | None = None
    """To read it from front to back; None where reading here and there is as good."""

    @property
    def mark(self) -> str:
        """What it is known by."""
        return f"{self.name}\0{self.size}"


@dataclass(frozen=True, slots=True)
class Held:
    """An image whose bytes were read on the way."""

    reopenable: ClassVar[bool] = False
    name: str
    data: bytes

    def open(self) -> BinaryIO:
        return opened(self.data)

    def read_bytes(self) -> bytes:
        return filled(self.data)

    def modified(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """What stands in the place of images that cannot be had."""

    reopenable: ClassVar[bool] = True
    name: str
    kind: str
    message: str

    def open(self) -> BinaryIO:
        raise UnreadableImage(self.kind, self.message)

    def read_bytes(self) -> bytes:
        raise UnreadableImage(self.kind, self.message)

    def modified(self) -> None:
        return None


def filled(data: bytes) -> bytes:
    """The same, unless there are none."""
    if not data:
        raise UnreadableImage("empty", "the file has no bytes")
    return data


def opened(data: bytes) -> BinaryIO:
    """For Pillow, which would not call nothing empty."""
    return BytesIO(filled(data))


def total_size(files: Iterable[File]) -> int | None:
    """Bytes of all files; None where a server does not tell."""
    sizes = [file.size for file in files]
    return None if None in sizes else sum(size or 0 for size in sizes)


def why(error: Exception) -> tuple[str, str]:
    """The kind, and a line for people, of whatever came up where a file was read."""
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    message = public(" ".join(text.encode("utf-8", "backslashreplace").decode().split()))
    match error:
        case UnreadableImage():
            return error.kind, message
        case OSError(errno=int() as number):
            return SYSTEM_KINDS.get(number, "io"), message
        # of fsspec: they have no number, and say little more than the URL
        case FileNotFoundError():
            return "missing", f"no such file: {message}"
        case PermissionError():
            return "permission", message
        case TimeoutError() | ConnectionError():
            return "io", message
    return ("damaged" if isinstance(error, DAMAGE) else "io"), message


def public(text: str) -> str:
    """Text without the passwords of its URLs, and without what follows a `?`, where keys and
    signatures stand.
    """
    return URL.sub(r"\1\2", text)


def portion(weights: Sequence[int], rank: int, ranks: int) -> slice:
    """What falls to one rank of a row of things, so that all carry about the same; things are never
    cut.

    Each goes where its middle lies when the whole is divided evenly; so neighbours stay together,
    and of equal things none gets more than one above another.
    """
    total = sum(weights) or 1
    owners = [
        (start + end) * ranks // (2 * total)
        for start, end in pairwise(accumulate(weights, initial=0))
    ]
    return slice(bisect_left(owners, rank), bisect_right(owners, rank))
