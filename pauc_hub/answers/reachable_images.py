"""The images of a table, wherever these are: in a folder, a tar or a Parquet file. URLs are not
fetched again.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pauc_hub.errors import PaucError
from pauc_hub.sources import Entry, open_source


def reachable_images(root: str, names: set[str]) -> Iterator[tuple[str, Entry | Path]]:
    """Names and places of those images that are still there.

    Args:
        root: where the images of the table were.
        names: paths in the table.
    """
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
