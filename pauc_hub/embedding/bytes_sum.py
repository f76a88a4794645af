"""The sha256 of an image's bytes, by which copies of a file are known without it."""

import hashlib
from pathlib import Path
from typing import BinaryIO

from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.sources import Entry


def bytes_sum(entry: Entry) -> str | None:
    """In hexadecimal digits; None where the bytes cannot be had."""
    try:
        return opened_sum(entry.open())
    except (OSError, UnreadableImage):
        return None


def opened_sum(file: Path | BinaryIO) -> str | None:
    """Of what Entry.open() gives; one that is open is at its beginning before and after.

    None where a file cannot be read.
    """
    if not isinstance(file, Path):
        found = hashlib.sha256(file.read()).hexdigest()
        file.seek(0)
        return found
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
