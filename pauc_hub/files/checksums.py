"""Lists of sha256 sums in the format of coreutils, and reading files against them."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from pauc_hub.errors import ModelFolderError
from pauc_hub.files.failures import reading

SUMS = "SHA256SUMS"
EDITED = (".json", ".md")  # that people change by hand
# no separator: a list speaks of its own folder alone
SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\]+)")


def format_sums(files: Mapping[str, bytes]) -> bytes:
    """The list that `sha256sum -c` reads, sorted by name."""
    return "".join(
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)
    ).encode()


def read_sums(folder: Path) -> dict[str, str]:
    """File name to sha256, in hexadecimal digits.

    Raises:
        ModelFolderError: the list cannot be read, or is none.
    """
    text = read_bytes(folder / SUMS).decode(errors="replace")
    matches = [SUM_LINE.fullmatch(line) for line in text.splitlines()]
    if not matches or None in matches:
        raise ModelFolderError(
            f"'{folder / SUMS}' is not a list as `sha256sum` writes it. Fetch the folder again."
        )
    return {match[2]: match[1] for match in matches if match}


def read_checked(path: Path, sums: Mapping[str, str]) -> bytes:
    """The file's bytes, whose sum was compared.

    Raises:
        ModelFolderError: the file is missing, damaged, or has no sum.
    """
    data, expected = read_bytes(path), expected_sum(path, sums)
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        edited = (
            f", or if you edited it, put its new sum into {SUMS}" if path.suffix in EDITED else ""
        )
        raise ModelFolderError(
            f"'{path}' is damaged: its sha256 is {found[:12]}…, {SUMS} says {expected[:12]}…. "
            f"Fetch the folder again{edited}."
        )
    return data


def expected_sum(path: Path, sums: Mapping[str, str]) -> str:
    """What the list says of this file.

    Raises:
        ModelFolderError: nothing.
    """
    if path.name not in sums:
        raise ModelFolderError(f"'{path}' has no sum in {SUMS}. Fetch the folder again.")
    return sums[path.name]


def file_sum(path: Path) -> str:
    """sha256 of a file of any size, in hexadecimal digits."""
    with reading(path, ModelFolderError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sum(path: Path) -> str:
    """What git names the content of a file: sha1 with the size before it, in hexadecimal digits."""
    with reading(path, ModelFolderError), path.open("rb") as file:
        found = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def sums_of(data: bytes) -> tuple[str, str]:
    """sha256, and what git names this content, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest(), hashlib.sha1(
        b"blob %d\0" % len(data) + data
    ).hexdigest()


def read_bytes(path: Path) -> bytes:
    with reading(path, ModelFolderError):
        return path.read_bytes()
