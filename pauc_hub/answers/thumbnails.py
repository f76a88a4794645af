"""Thumbnails of images that stand in a table, wherever these are: in a folder, a tar or a Parquet file."""

import base64
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pauc_hub.errors import PaucError
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.progress import progress_bar
from pauc_hub.sources import Entry, open_source
from pauc_hub.threads import decode_ahead

# of the longer side, in pixels
SIDE = 128
# of the JPEG; about 4 KB each
QUALITY = 75
AHEAD = 64


def thumbnails_of(root: str, names: set[str], reading: Reading = PLAIN, quiet: bool = False) -> dict[str, str]:
    """JPEGs in base64 of those images that can be read; URLs are not fetched again.

    Args:
        root: where the images of the table were.
        names: paths in the table.
        reading: of the images, as the table has it.
    """

    def shrink(found: tuple[str, Entry | Path]) -> tuple[str, str | None]:
        name, place = found
        try:
            return name, _thumbnail(place if isinstance(place, Path) else place.open(), reading)
        except (UnreadableImage, OSError):
            return name, None

    with (
        progress_bar(len(names), "thumbnails", quiet=quiet) as bar,
        closing(decode_ahead(shrink, _places(root, names), None, AHEAD)) as shrunk,
    ):
        made = {}
        for name, data in shrunk:
            bar.advance(1)
            if data:
                made[name] = data
        return made


def _places(root: str, names: set[str]) -> Iterator[tuple[str, Entry | Path]]:
    top = Path(root)
    missing = set()
    for name in sorted(names):
        file = top if top.is_file() and top.name == name else top / name
        if file.is_file():
            yield name, file
        else:
            missing.add(name)
    if missing and os.path.exists(root):  # noqa: PTH110 (a URL is no Path)
        yield from _entries(root, missing)


def _entries(root: str, names: set[str]) -> Iterator[tuple[str, Entry]]:
    """From archives, by a walk through them that ends with the last one wanted."""
    try:
        entries: Iterable[Entry] = open_source(root).entries()
        left = set(names)
        for entry in entries:
            if entry.name in left:
                left.discard(entry.name)
                yield entry.name, entry
                if not left:
                    return
    except PaucError:
        return


def _thumbnail(source: Path | BinaryIO, reading: Reading) -> str:
    image = read_image(source, reading)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
