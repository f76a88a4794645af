"""Sources on this machine: folders, files, and patterns of files."""

import glob
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pauc_hub.errors import UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.sources.contract import Source
from pauc_hub.sources.folders import ImageFile, suffix_of, walk
from pauc_hub.sources.kinds import of_one_file, recognise_source
from pauc_hub.sources.patterns import above, is_pattern, matches_files, write_out
from pauc_hub.sources.stored import File


def open_local(place: str, column: str | None = None) -> Source:
    path = Path(place)
    if path.is_dir():
        return recognise_source(absolute(path), partial(walk, path), local_files, column)
    if path.exists():
        return of_one_file(
            absolute(path), ImageFile(readable(path.name), place), local_files, column
        )
    if not is_pattern(place):
        raise UsageError(f"no such file or folder: '{readable(place)}'")
    matches = [file for piece in write_out(place) for file in _matches(piece)]
    if not matches:
        raise UsageError(f"no file matches '{readable(place)}'.")
    return recognise_source(
        absolute(Path(above(place))),
        partial(_named, matches, len(above(place))),
        local_files,
        column,
    )


def absolute(path: Path) -> str:
    return readable(path.absolute())


def local_files(files: Sequence[ImageFile]) -> list[File]:
    """Files that hold images.

    Raises:
        UsageError: one of them is not there, or no file.
    """
    return [File(file.name, _size(file), partial(open_file, file.path)) for file in files]


def open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def _size(file: ImageFile) -> int:
    try:
        found = file.path.stat()
    except OSError as error:
        raise UsageError(f"'{readable(file.path)}' cannot be read ({error.strerror}).") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"'{readable(file.path)}' is a folder, pipe or device, not a file.")
    return found.st_size


def _matches(piece: str) -> list[str]:
    if not matches_files(piece):
        return [piece]
    return sorted(glob.glob(piece, recursive=True), key=readable)  # noqa: PTH207, Path.glob() enters hidden folders


def _named(
    files: Sequence[str], start: int, suffixes: Iterable[str], passed_over: Counter[str] | None
) -> Iterator[ImageFile]:
    endings = tuple(suffixes)
    for file in files:
        if file.lower().endswith(endings):
            yield ImageFile(readable(file[start:]), file)
        elif passed_over is not None and not Path(file).is_dir():
            passed_over[suffix_of(file)] += 1
