"""Images below folders: found in the order of their names, while they are asked for."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.images.formats import IMAGE_SUFFIXES


@dataclass(frozen=True, order=True)
class ImageFile:
    reopenable: ClassVar[bool] = True
    name: str
    """Path below the root with `/` between its parts; bytes that are not UTF-8 as `\\xNN`."""
    place: str
    """The path as the system takes it: text, since a million Paths take longer to make than to
    find.
    """

    @property
    def path(self) -> Path:
        return Path(self.place)

    def open(self) -> Path:
        """For read_with(), which looks at the file before it opens it."""
        return self.path

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def modified(self) -> float:
        """Seconds since 1970.

        Raises:
            OSError: it is not there, or may not be looked at.
        """
        return self.path.stat().st_mtime


def find_images(root: Path) -> list[ImageFile]:
    """All files below `root` that are named like images, sorted by name; `root` may also be one
    file of any name.

    Whether a file is any good shows when it is read.

    Raises:
        UsageError: there is nothing at `root`.
        NoImages: a folder with nothing to read.
    """
    if not root.exists():
        raise UsageError(f"no such file or folder: '{readable(root)}'")
    if not root.is_dir():
        return [ImageFile(readable(root.name), str(root))]
    images = list(walk(root))
    if not images:
        raise NoImages(
            f"no images in '{readable(root)}': no file there ends in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return images


def walk(
    root: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES, passed_over: Counter[str] | None = None
) -> Iterator[ImageFile]:
    """The files below a folder whose names end so, in the order of their names, found while they
    are asked for.

    Args:
        passed_over: to count the other files in, by suffix.

    Held at any time are the names in one folder and in those above it. Symbolic links are followed,
    also those to folders, but never into a folder they lie in. Hidden files and folders are
    skipped. A folder that cannot be listed is handed on as if it were a file, so that reading it
    tells why; its name ends in `/`.
    """
    endings = tuple(suffixes)
    try:
        levels = [_list("", str(root), frozenset(), endings, passed_over)]
    except OSError:
        yield ImageFile(".", str(root))
        return
    while levels:
        level = levels[-1]
        if not level.left:
            levels.pop()
            continue
        last = level.left.pop()
        name, path = level.name + readable(last), f"{level.path}/{last}"
        if not last.endswith("/"):
            yield ImageFile(name, path)
            continue
        try:
            levels.append(_list(name, path, level.inside, endings, passed_over))
        except OSError:
            yield ImageFile(name, path)


class _Level(NamedTuple):
    """A folder on the way of a walk."""

    name: str
    path: str
    inside: frozenset[tuple[int, int]]
    """Identities of the folder and of those above it."""
    left: list[str]
    """What is in it and was not visited yet, the next one last; folders end in `/`."""


def suffix_of(name: str) -> str:
    """The suffix, in small letters; empty where there is none."""
    last = name.rpartition("/")[2]
    start = last.rfind(".")
    return last[start:].lower() if start > 0 else ""


def _list(
    name: str,
    path: str,
    above: frozenset[tuple[int, int]],
    endings: tuple[str, ...],
    passed_over: Counter[str] | None,
) -> _Level:
    here = _identity(path)
    if here in above:
        return _Level(name, path, above, [])
    with os.scandir(path) as entries:
        shown = (entry for entry in entries if not entry.name.startswith("."))
        marked = [entry.name + "/" if _is_folder(entry) else entry.name for entry in shown]
    left = [name for name in marked if name.endswith("/") or name.lower().endswith(endings)]
    if passed_over is not None and len(left) < len(marked):
        kept = set(left)
        passed_over.update(suffix_of(name) for name in marked if name not in kept)
    # with their `/`, folders stand where the names of their files do
    left.sort(key=readable, reverse=True)
    return _Level(name, path, above | {here}, left)


def _identity(folder: str) -> tuple[int, int]:
    found = Path(folder).stat()
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
