"""Sources behind URLs, through fsspec: folders, files, and patterns of files."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, ClassVar

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.images.decoding import UnreadableImage, readable
from pauc_hub.sources.contract import Source
from pauc_hub.sources.folders import suffix_of
from pauc_hub.sources.kinds import of_one_file, recognise_source
from pauc_hub.sources.patterns import above, is_pattern, matches_files, write_out
from pauc_hub.sources.stored import File, filled, opened, public, why

ASKED_TOGETHER = 16  # sizes of files: it is waiting, not work
# these give a file from front to back when no blocks are asked for
STREAMED = ("http", "https", "hf")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind a URL; fetched whole, when it is decoded."""

    reopenable: ClassVar[bool] = False
    name: str
    system: Any
    """The file system of fsspec that has it."""
    path: str
    """There."""
    size: int | None = None
    """Where a listing told."""

    def open(self) -> BinaryIO:
        return opened(self.read_bytes())

    def read_bytes(self) -> bytes:
        try:
            return filled(self.system.cat_file(self.path))
        except UnreadableImage:
            raise
        except Exception as error:  # each protocol has its own
            raise UnreadableImage(*why(error)) from error

    def modified(self) -> None:
        return None


def is_url(place: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*(://|::)", place, re.IGNORECASE) is not None


def named(url: str, name: str | None = None) -> RemoteFile:
    return RemoteFile(name or public(url), *_connect(url))


def fetched(url: str) -> BinaryIO:
    """All of a file.

    Raises:
        PaucError, UsageError: it cannot be had.
    """
    system, path = _connect(url)
    with _telling(url):
        return BytesIO(system.cat_file(path))


def open_remote(url: str, column: str | None = None) -> Source:
    if is_pattern(_below_host(url)):
        return _open_pattern(url, column)
    system, path = _connect(url)
    root = public(url).rstrip("/")
    if _is_folder(url, system, path):
        return recognise_source(
            root, partial(_walk, system, path.rstrip("/")), remote_files, column
        )
    return of_one_file(
        root, RemoteFile(root.rpartition("/")[2], system, path), remote_files, column
    )


def remote_files(files: Sequence[RemoteFile]) -> list[File]:
    """Files that hold images.

    Raises:
        UsageError, PaucError: one of them is not there, or cannot be asked for.
    """
    with ThreadPoolExecutor(ASKED_TOGETHER) as pool:
        sizes = list(pool.map(_size, files))
    return [
        File(file.name, size, partial(file.system.open, file.path, "rb"), partial(_stream, file))
        for file, size in zip(files, sizes, strict=True)
    ]


def _size(file: RemoteFile) -> int | None:
    if file.size is not None:
        return file.size
    with _telling(file.system.unstrip_protocol(file.path)):
        size: int | None = file.system.info(file.path)["size"]
    return size


def _stream(file: RemoteFile) -> BinaryIO:
    protocols = file.system.protocol
    streamed = not {protocols, *protocols}.isdisjoint(STREAMED)
    stream: BinaryIO = file.system.open(file.path, "rb", **({"block_size": 0} if streamed else {}))
    return stream


def _open_pattern(url: str, column: str | None) -> Source:
    base = above(url)
    system, start = _connect(base)
    with _telling(url):
        paths = [path for piece in write_out(url) for path in _matches(system, piece)]
    if not paths:
        raise UsageError(f"no file matches '{public(url)}'.")
    start = start.rstrip("/") + "/"

    def walk(suffixes: Iterable[str], passed_over: Counter[str] | None) -> Iterator[RemoteFile]:
        endings = tuple(suffixes)
        for path in paths:
            file = RemoteFile(readable(public(path).removeprefix(public(start))), system, path)
            if file.name.lower().endswith(endings):
                yield file
            elif passed_over is not None:
                passed_over[suffix_of(file.name)] += 1

    return recognise_source(public(base).rstrip("/"), walk, remote_files, column)


def _matches(system: Any, piece: str) -> list[str]:
    path = _connect(piece)[1]
    return sorted(system.glob(path)) if matches_files(_below_host(piece)) else [path]


def _below_host(url: str) -> str:
    """Where a pattern may stand: with http, `?` begins a query, and `[` an address."""
    return (
        url.partition("://")[2].partition("/")[2].replace("?", "")
        if url.startswith("http")
        else url
    )


def _is_folder(url: str, system: Any, path: str) -> bool:
    if url.startswith("http"):
        return public(url).endswith("/")
    with _telling(url):
        return bool(system.info(path)["type"] == "directory")


def _walk(
    system: Any,
    path: str,
    suffixes: Iterable[str],
    passed_over: Counter[str] | None,
    name: str = "",
) -> Iterator[RemoteFile]:
    """As folders.walk() does it."""
    endings = tuple(suffixes)
    try:
        children = _children(system, path, endings, passed_over)
    except Exception:  # each protocol has its own
        yield RemoteFile(name or ".", system, path)  # reading it tells why
        return
    while children:
        last, size = children.pop()
        if last.endswith("/"):
            yield from _walk(
                system, f"{path}/{last[:-1]}", endings, passed_over, name + readable(last)
            )
        else:
            yield RemoteFile(name + readable(last), system, f"{path}/{last}", size)


def _children(
    system: Any, path: str, endings: tuple[str, ...], passed_over: Counter[str] | None
) -> list[tuple[str, int | None]]:
    """What is in a folder, the first last, and its size; folders end in `/`."""
    children = []
    for found in system.ls(path + "/", detail=True):
        last = found["name"].rstrip("/").rpartition("/")[2]
        is_child = found["name"].rstrip("/") == f"{path}/{last}" and not last.startswith((".", "?"))
        if is_child and found["type"] == "directory":
            children.append((last + "/", None))
        elif is_child and last.lower().endswith(endings):
            children.append((last, found["size"]))
        elif is_child and passed_over is not None:
            passed_over[suffix_of(last)] += 1
    system.invalidate_cache(path)  # or it would hold all listings for ever
    return sorted(children, key=lambda child: readable(child[0]), reverse=True)


def _connect(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise PaucError(
            f"'{public(url)}' needs a package that is not installed: {why(error)[1]}."
        ) from error
    except ValueError as error:
        raise UsageError(f"'{public(url)}' cannot be opened: {why(error)[1]}.") from error
    return system, path


@contextmanager
def _telling(url: str) -> Iterator[None]:
    try:
        yield
    except PaucError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"no such file or folder: '{public(url)}'") from error
    except Exception as error:  # each protocol has its own
        raise PaucError(f"'{public(url)}' cannot be reached ({why(error)[1]}).") from error
