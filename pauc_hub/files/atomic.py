"""Writing that survives a crash: a file or folder is there whole and synced to disk, or not at
all.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder of files at `path`; a folder that stands there is replaced, with all that is in
    it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = hidden_sibling(path)
    try:
        new.mkdir()
        for name, data in files.items():
            write_synced(new / name, data)
        sync(new)
        _put_in_place(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # after a success there is none
    sync(path.parent)


def copy_directory(path: Path, files: Iterable[Path]) -> None:
    """Put copies of files into a folder at `path`; a folder that stands there is replaced, with all
    that is in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = hidden_sibling(path)
    try:
        new.mkdir()
        for file in files:
            shutil.copyfile(file, new / file.name)
            sync(new / file.name)
        sync(new)
        _put_in_place(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # after a success there is none
    sync(path.parent)


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files that belong together into a folder that stands; its other files stay.

    All are safe on the disk before the first takes its place, so that only a crash between the
    renames parts them.
    """
    new = {name: hidden_sibling(folder / name) for name in files}
    try:
        for name, data in files.items():
            write_synced(new[name], data)
        for name, place in new.items():
            place.replace(folder / name)
        sync(folder)
    finally:
        for place in new.values():
            place.unlink(missing_ok=True)  # after a success there is none


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which appears at `path` when all of it is safe on the disk; nothing is left
    after an error.
    """
    new = hidden_sibling(path)
    try:
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync(path.parent)
    finally:
        new.unlink(missing_ok=True)  # after a success there is none


def write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """A file or a folder; without the latter, a file's name may be lost in a power cut though its
    content is safe.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hidden_sibling(path: Path) -> Path:
    """A name that nobody uses, on the same file system, so that renaming it to `path` is one
    step.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def leftovers(path: Path) -> list[Path]:
    """Hidden siblings of writers that were killed; to be asked for only while nobody writes
    `path`.
    """
    hidden = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    return [other for other in path.parent.iterdir() if hidden.fullmatch(other.name)]


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _put_in_place(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = hidden_sibling(path)
    path.rename(old)  # a folder cannot be renamed onto one that holds files
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old)
