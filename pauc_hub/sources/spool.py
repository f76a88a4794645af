"""Encoded images one after another in a scratch file, for sources that can only be read from front
to back.
"""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import BinaryIO, ClassVar
from weakref import finalize

from pauc_hub.errors import PaucError
from pauc_hub.sources.stored import opened

ROOM_LEFT = 1 << 28  # bytes that are not touched, for others


@dataclass(frozen=True, slots=True)
class Spooled:
    """An image in the scratch file; any number of threads may read at the same time."""

    reopenable: ClassVar[bool] = True
    name: str
    spool: "Spool"
    offset: int
    size: int

    def open(self) -> BinaryIO:
        return opened(self.read_bytes())

    def read_bytes(self) -> bytes:
        return os.pread(self.spool.descriptor, self.size, self.offset)

    def modified(self) -> None:
        return None


class Spool:
    """A file without a name where temporary files go (TMPDIR): it vanishes with the process,
    however that ends.
    """

    def __init__(self, expected: int | None = None) -> None:
        """Look whether there is room.

        Args:
            expected: bytes that will be added, where that is known.

        Raises:
            PaucError: there is not.
        """
        self.folder = tempfile.gettempdir()
        free = shutil.disk_usage(self.folder).free - ROOM_LEFT
        if expected is not None and expected > free:
            raise _full(self.folder, expected, max(0, free))
        unnamed = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this)
        finalize(self, unnamed.close)
        self.descriptor, self.size = unnamed.fileno(), 0

    def add(self, name: str, data: bytes) -> Spooled:
        """Append an image.

        Raises:
            PaucError: the disk is full.
        """
        rest, offset = memoryview(data), self.size
        try:
            while rest:
                written = os.pwrite(self.descriptor, rest, self.size)
                rest, self.size = rest[written:], self.size + written
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _full(self.folder, offset + len(data), offset) from error
        return Spooled(name, self, offset, len(data))


def _full(folder: str, needed: int, room: int) -> PaucError:
    return PaucError(
        f"these images can only be read from front to back, so they are copied to '{folder}' "
        "first, which needs "
        f"{needed / 1e9:.1f} GB and has room for {room / 1e9:.1f}. Set TMPDIR to a folder with "
        "more, or unpack them."
    )
