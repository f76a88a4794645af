"""What a bunch of files is: images, archives of images, or Parquet files of images."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pauc_hub.errors import NoImages
from pauc_hub.images.formats import HEIF, HEIF_HINT, IMAGE_SUFFIXES
from pauc_hub.sources.contract import Entry, Source
from pauc_hub.sources.folders import suffix_of
from pauc_hub.sources.rows import SUFFIX_OF_ROWS, open_rows
from pauc_hub.sources.stored import File
from pauc_hub.sources.tars import SUFFIXES_OF_TARS, Archives
from pauc_hub.sources.walked import Walked

_Found = TypeVar("_Found", bound=Entry)
EVERYTHING = ("",)


def is_tar(name: str) -> bool:
    return name.lower().endswith(SUFFIXES_OF_TARS)


def is_parquet(name: str) -> bool:
    return name.lower().endswith(SUFFIX_OF_ROWS)


def of_one_file(
    root: str,
    file: _Found,
    stored: Callable[[Sequence[_Found]], list[File]],
    column: str | None = None,
) -> Source:
    """A tar, a Parquet file, or else an image, whatever its name."""
    return of_files(root, file, lambda: iter([file]), stored, column)


def of_files(
    root: str,
    first: _Found,
    walk: Callable[[], Iterator[_Found]],
    stored: Callable[[Sequence[_Found]], list[File]],
    column: str | None = None,
) -> Source:
    """Files that somebody has named one by one: they are what the first of them is."""
    if is_tar(first.name):
        return Archives(root, tuple(stored(list(walk()))))
    if is_parquet(first.name):
        return open_rows(root, stored(list(walk())), column)
    return Walked(root, lambda _: walk())


def recognise_source(
    root: str,
    walk: Callable[[Iterable[str], Counter[str] | None], Iterator[_Found]],
    stored: Callable[[Sequence[_Found]], list[File]],
    column: str | None = None,
) -> Source:
    """Images where there are any; else tars; else Parquet files.

    Args:
        walk: finds the files whose names end so, in order, and counts the others; a folder that
            cannot be listed comes as a name with a `/`.
        column: of images, in Parquet files.
        stored: files as the holders of images.

    Raises:
        NoImages: nothing of all that.
    """
    tars: list[_Found] = []
    tables: list[_Found] = []
    unlisted, others = 0, Counter[str]()
    for found in walk(EVERYTHING, None):
        if found.name.lower().endswith(tuple(IMAGE_SUFFIXES)):
            break
        if is_tar(found.name):
            tars.append(found)
        elif is_parquet(found.name):
            tables.append(found)
        elif found.name.endswith("/") or found.name == ".":
            unlisted += 1
        else:
            others[suffix_of(found.name)] += 1
    else:
        if tars:
            return Archives(root, tuple(stored(tars)))
        if tables:
            return open_rows(root, stored(tables), column)
        if not unlisted:
            raise _nothing(root, others)
    return Walked(root, lambda passed_over: walk(IMAGE_SUFFIXES, passed_over))


def _nothing(root: str, others: Counter[str]) -> NoImages:
    known = ", ".join((*sorted(IMAGE_SUFFIXES), *SUFFIXES_OF_TARS, SUFFIX_OF_ROWS))
    count = others.total()
    found = f"{count} file{'s' * (count != 1)}, none of which" if count else "no file there"
    hint = (
        f" For {', '.join(sorted(HEIF & set(others)))}: {HEIF_HINT}."
        if HEIF & set(others) - IMAGE_SUFFIXES
        else ""
    )
    return NoImages(f"no images in '{root}': {found} ends in {known}.{hint}")
