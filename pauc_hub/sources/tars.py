"""Images in tar archives, in the order in which they lie there; what cannot be read of an archive
is one entry.
"""

import gzip
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import BinaryIO, ClassVar

from pauc_hub.images.decoding import UnreadableImage, readable
from pauc_hub.images.formats import IMAGE_SUFFIXES, PICTURES
from pauc_hub.sources.contract import Entry, Listing, fingerprint
from pauc_hub.sources.folders import suffix_of
from pauc_hub.sources.stored import (
    LARGEST_IMAGE,
    File,
    Held,
    Unavailable,
    filled,
    opened,
    portion,
    total_size,
    why,
)

SUFFIXES_OF_TARS = (".tar", ".tar.gz", ".tgz")
ENDINGS = tuple(IMAGE_SUFFIXES)


@dataclass(frozen=True)
class Archives:
    """A source of the images in some archives. How many there are shows when they are read."""

    root: str
    files: tuple[File, ...]
    passed_over: Counter[str] = field(default_factory=Counter, compare=False)
    """Members that are pictures or films of other kinds, by suffix; counted in the last pass."""

    @property
    def size(self) -> int | None:
        return total_size(self.files)

    def listing(self) -> Listing:
        return Listing(None, fingerprint(file.mark for file in self.files))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        self.passed_over.clear()
        count = partial(_images, passed_over=self.passed_over)
        return islice(chain.from_iterable(map(count, self.files)), start, None)

    def share(self, rank: int, ranks: int) -> "Archives":
        """Whole archives, of about the same number of bytes."""
        part = self.files[portion([file.size or 1 for file in self.files], rank, ranks)]
        return replace(self, files=part, passed_over=Counter())


@dataclass(frozen=True, slots=True)
class Member:
    """An image in an archive on disk, read from there when it is decoded."""

    reopenable: ClassVar[bool] = True
    name: str
    archive: File
    offset: int
    size: int

    def open(self) -> BinaryIO:
        return opened(self.read_bytes())

    def read_bytes(self) -> bytes:
        with self.archive.open() as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise UnreadableImage("damaged", "the archive has become shorter")
        return filled(data)

    def modified(self) -> None:
        return None


def _images(file: File, passed_over: Counter[str]) -> Iterator[Entry]:
    found, in_place = 0, file.stream is None and file.name.lower().endswith(".tar")
    try:
        with (file.stream or file.open)() as raw, closing(_tar(file, raw, in_place)) as tar:
            for member in _members(tar):
                if in_place and member.offset_data + member.size > (file.size or 0):
                    raise EOFError("it is cut off")
                if _is_shown(member):
                    yield _image(file, member, tar, in_place)
                    found += 1
                elif (suffix := suffix_of(member.name)) in PICTURES:
                    passed_over[suffix] += 1
    except Exception as error:  # of tarfile, zlib, the system, the network
        kind, message = why(error)
        yield Unavailable(
            file.name,
            kind,
            f"the archive cannot be read beyond its first {found} images: {message}",
        )


def _tar(file: File, raw: BinaryIO, in_place: bool) -> tarfile.TarFile:
    if in_place:
        return tarfile.open(fileobj=raw, mode="r:", encoding="utf-8")
    stream = raw if file.name.lower().endswith(".tar") else gzip.GzipFile(fileobj=raw)
    return tarfile.open(fileobj=stream, mode="r|", encoding="utf-8")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """As tarfile does it; but tarfile keeps all, and takes a broken header for the end."""
    file, member = tar.fileobj, tar.next()
    assert file is not None
    while member:
        if tar.offset <= member.offset:
            raise tarfile.ReadError("a member of negative size")
        yield member
        file.seek(tar.offset)
        try:
            member = tarfile.TarInfo.fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is cut off, or damaged ({error})") from error


def _is_shown(member: tarfile.TarInfo) -> bool:
    hidden = any(part.startswith(".") for part in member.name.split("/") if part not in (".", ".."))
    return member.name.lower().endswith(ENDINGS) and not hidden and not member.isdir()


def _image(file: File, member: tarfile.TarInfo, tar: tarfile.TarFile, in_place: bool) -> Entry:
    name = f"{file.name}/{readable(member.name.removeprefix('./'))}"
    if not member.isreg() or member.issparse():
        return Unavailable(
            name, "not_a_file", "a link, a device or a file with holes in an archive"
        )
    if member.size > LARGEST_IMAGE:
        return Unavailable(
            name, "too_large", f"{member.size} bytes in an archive; the limit is {LARGEST_IMAGE}"
        )
    if in_place:
        return Member(name, file, member.offset_data, member.size)
    assert tar.fileobj is not None
    data = tar.fileobj.read(member.size)
    if len(data) < member.size:
        raise EOFError("it is cut off")
    return Held(name, data)
