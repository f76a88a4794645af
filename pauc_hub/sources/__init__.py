"""Where images come from. open_source() tells by a place's name and contents what it is, and gives
them in order.
"""

from collections import Counter
from functools import partial
from pathlib import Path

from pauc_hub.sources.contract import Entry, Listing, Source
from pauc_hub.sources.lists import SUFFIX_OF_LISTS, open_list
from pauc_hub.sources.local import open_file, open_local
from pauc_hub.sources.remote import fetched, is_url, open_remote
from pauc_hub.sources.stored import public
from pauc_hub.sources.tars import Archives
from pauc_hub.sources.walked import Walked

__all__ = ["Entry", "Listing", "Source", "open_source", "passed_over"]


def open_source(place: str | Path, image_column: str | None = None) -> Source:
    """Images wherever they are: below a folder, in tars, in Parquet files, in a list of files; a
    path or a URL.

    Args:
        place: a folder; a file: .tar, .tar.gz, .tgz, .parquet, .txt with one path or URL a line, or
            else one image; or a pattern of files, `shards/{000..127}.tar`, `shards/*.tar`. As text,
            since a Path spoils URLs.
        image_column: of Parquet files, where several hold images, or one of another name.

    Raises:
        UsageError: there is nothing at the place.
        NoImages: there is something, but no images.
        PaucError: it cannot be read, or a package is missing for it.
    """
    place = str(place).removeprefix("file://")
    column = image_column
    is_list = public(place).lower().endswith(SUFFIX_OF_LISTS)
    if is_url(place):
        return (
            open_list(place, partial(fetched, place), column)
            if is_list
            else open_remote(place, column)
        )
    if is_list and Path(place).is_file():
        return open_list(place, partial(open_file, Path(place)), column)
    return open_local(place, column)


def passed_over(source: Source) -> Counter[str]:
    """Files, by suffix, that lie among the images and are none; known once the source was listed,
    or read.
    """
    match source:
        case Walked() | Archives():
            return +source.passed_over
    return Counter()
