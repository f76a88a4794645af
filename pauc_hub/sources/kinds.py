"""What a bunch of files is: images, archives of images, or Parquet files of images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pauc_hub.errors import NoImages
from pauc_hub.images.formats import SUFFIXES
from pauc_hub.sources.contract import Entry, Source
from pauc_hub.sources.rows import SUFFIX_OF_ROWS, open_rows
from pauc_hub.sources.stored import File
from pauc_hub.sources.tars import SUFFIXES_OF_TARS, Archives
from pauc_hub.sources.walked import Walked

Found = TypeVar("Found", bound=Entry)
EVERYTHING = ("",)


def is_tar(name: str) -> bool:
    return name.lower().endswith(SUFFIXES_OF_TARS)


def is_parquet(name: str) -> bool:
    return name.lower().endswith(SUFFIX_OF_ROWS)


def of_one_file(root: str, file: Found, stored: Callable[[Sequence[Found]], list[File]]) -> Source:
    """A tar, a Parquet file, or else an image, whatever its name."""
    return of_files(root, file, lambda: iter([file]), stored)


def of_files(
    root: str, first: Found, walk: Callable[[], Iterator[Found]], stored: Callable[[Sequence[Found]], list[File]]
) -> Source:
    """Files that somebody has named one by one: they are what the first of them is."""
    if is_tar(first.name):
        return Archives(root, tuple(stored(list(walk()))))
    if is_parquet(first.name):
        return open_rows(root, stored(list(walk())))
    return Walked(root, walk)


def recognise(
    root: str, walk: Callable[[Iterable[str]], Iterator[Found]], stored: Callable[[Sequence[Found]], list[File]]
) -> Source:
    """Images where there are any; else tars; else Parquet files.

    Args:
        walk: finds the files whose names end so, in order; a folder that cannot be listed comes as a name with a `/`.
        stored: files as the holders of images.

    Raises:
        NoImages: nothing of all that.
    """
    tars: list[Found] = []
    tables: list[Found] = []
    unlisted = others = 0
    for found in walk(EVERYTHING):
        if found.name.lower().endswith(tuple(SUFFIXES)):
            break
        if is_tar(found.name):
            tars.append(found)
        elif is_parquet(found.name):
            tables.append(found)
        elif found.name.endswith("/") or found.name == ".":
            unlisted += 1
        else:
            others += 1
    else:
        if tars:
            return Archives(root, tuple(stored(tars)))
        if tables:
            return open_rows(root, stored(tables))
        if not unlisted:
            raise _nothing(root, others)
    return Walked(root, lambda: walk(SUFFIXES))


def _nothing(root: str, others: int) -> NoImages:
    known = ", ".join((*sorted(SUFFIXES), *SUFFIXES_OF_TARS, SUFFIX_OF_ROWS))
    found = f"{others} file{'s' * (others != 1)}, none of which" if others else "no file there"
    return NoImages(f"no images in '{root}': {found} ends in {known}.")
