"""Where images come from. open_source() tells by a place's name and contents what it is, and gives them in order."""

from pathlib import Path

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images import SUFFIXES, ImageFile, readable, walk
from pauc_hub.sources.contract import Entry, Listing, Source, Walked

__all__ = ["Entry", "Listing", "Source", "open_source"]


def open_source(place: str | Path) -> Source:
    """A folder of images, or one image of any name.

    Raises:
        UsageError: there is nothing at the place.
        NoImages: there is something, but no images.
    """
    root = Path(place)
    if not root.exists():
        raise UsageError(f"no such file or folder: '{readable(root)}'")
    if not root.is_dir():
        return Walked(_absolute(root), lambda: iter([ImageFile(readable(root.name), root)]))
    if next(walk(root), None) is None:
        raise NoImages(f"no images in '{readable(root)}': no file there ends in {', '.join(sorted(SUFFIXES))}.")
    return Walked(_absolute(root), lambda: walk(root))


def _absolute(path: Path) -> str:
    return readable(path.absolute())
