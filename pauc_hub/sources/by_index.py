"""All images of a place by index, wherever they lie: each can be read at any time, again and
again.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from pauc_hub import sources
from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import UnreadableImage, read_with
from pauc_hub.images.jpeg import Picture, decode
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.progress import progress_bar
from pauc_hub.sources.contract import Entry, Source
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.spool import Spool
from pauc_hub.sources.stored import Unavailable, public, why
from pauc_hub.sources.value_ranges import with_measured_range
from pauc_hub.sources.walked import Walked
from pauc_hub.threads import decode_ahead

# images behind URLs: it is waiting, not work
FETCHED_TOGETHER = 16


@dataclass
class ImageSource:
    """Images by index, in the order of the place they come from.

    Attributes:
        root: the place as it was given, without credentials.
        names: of each image, as in a table of embeddings (docs/sources.md).
        picture: the image of an index, upright RGB, in any thread; raises UnreadableImage or
            OSError where there is none. It is told the value range and bands to read with.
        unreadable: indices that could not be decoded so far, and why.
        has_place: whether `root` is a place that commands take; lists and datasets of a program
            have none.
        reading: how images are read: value range and bands (docs/images.md).
        passed_over: files that lie among the images and are none, by suffix.
    """

    root: str
    names: Sequence[str]
    picture: Callable[[int, Reading], Picture]
    unreadable: dict[int, str] = field(default_factory=dict)
    has_place: bool = True
    reading: Reading = PLAIN
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Picture | None:
        """The image, upright RGB; None where it cannot be read, which is remembered."""
        try:
            return self.picture(index, self.reading)
        except (UnreadableImage, OSError) as error:
            self.unreadable[index] = str(error)
            return None

    def subset(self, indices: Sequence[int]) -> "ImageSource":
        """Some of the images, numbered anew; none of them counts as unreadable yet."""
        return replace(
            self,
            names=[self.names[index] for index in indices],
            picture=lambda index, reading: self.picture(indices[index], reading),
            unreadable={},
        )

    def fingerprint(self) -> str:
        """sha256 of the list of names: whether two runs saw the same images."""
        return hashlib.sha256("\n".join(self.names).encode("utf-8", "surrogateescape")).hexdigest()


def from_entries(
    root: str, entries: Sequence[Entry], *, has_place: bool = True, reading: Reading = PLAIN
) -> ImageSource:
    """Stored images by index.

    Args:
        entries: each reopenable.
    """
    return ImageSource(
        root,
        [entry.name for entry in entries],
        lambda index, reading: read_with(decode, entries[index].open(), reading),
        has_place=has_place,
        reading=reading,
    )


def open_by_index(place: str | Path, given: Reading = PLAIN, *, quiet: bool = False) -> ImageSource:
    """Whatever `pauc embed` takes (docs/sources.md); what is not reopenable is copied to a scratch
    file first.

    Args:
        place: as text, since a Path spoils URLs.
        given: of value range and bands; a range that is not given is measured where the images need
            one.

    Raises:
        UsageError, NoImages, PaucError: nothing there that could be trained on, or no room for the
            scratch file.
    """
    source, root = sources.open_source(place), public(str(place))
    with progress_bar(None, "finding the images", quiet=quiet) as bar:
        if isinstance(source, Walked):
            # which counts what it passes over
            source.listing()
        entries = []
        for entry in reopenable(source):
            entries.append(entry)
            bar.advance(1)
    if not entries:
        raise NoImages(
            f"no images in '{root}': no member of its archives is named like one (docs/sources.md)."
        )
    first = entries[0]
    if isinstance(first, Unavailable) and all(isinstance(entry, Unavailable) for entry in entries):
        raise NoImages(f"no images in '{root}' that can be read; {first.name}: {first.message}.")
    if len(entries) == 1 and isinstance(first, ImageFile) and Path(first.path) == Path(place):
        raise UsageError(
            f"'{root}' is one file, and no tar, Parquet file or list. Training needs many "
            "images (docs/sources.md)."
        )
    found = from_entries(root, entries, reading=with_measured_range(entries, given))
    return replace(found, passed_over=sources.passed_over(source))


def reopenable(source: Source) -> Iterator[Entry]:
    """The entries of a source, each such that it can be opened again and again; others go to a
    scratch file.
    """
    spool: Spool | None = None
    for stays, entries in groupby(source.entries(), lambda entry: entry.reopenable):
        if stays:
            yield from entries
            continue
        spool = spool or Spool(source.size)
        for entry, data in decode_ahead(_fetched, entries, FETCHED_TOGETHER, 2 * FETCHED_TOGETHER):
            yield entry if data is None else spool.add(entry.name, data)


def _fetched(entry: Entry) -> tuple[Entry, bytes | None]:
    """With its bytes; or what says why there are none."""
    try:
        return entry, entry.read_bytes()
    except (UnreadableImage, OSError) as error:
        return Unavailable(entry.name, *why(error)), None
