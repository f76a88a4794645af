"""One process at a time: the system lifts a lock when its holder ends, however it does."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pauc_hub.errors import PaucError


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Keep other processes out of a folder.

    Args:
        refusal: what to say where another one is at it.

    Raises:
        PaucError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, refusal)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, refusal: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PaucError(refusal) from error
    except OSError:  # a file system without locks; then whoever starts two runs on one output loses work
        pass
