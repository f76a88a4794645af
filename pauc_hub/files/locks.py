"""One process at a time: the system lifts a lock when its holder ends, however it does."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pauc_hub.errors import PaucError
from pauc_hub.files.ownership import require_own


@contextmanager
def locked(folder: Path, refusal: str) -> Iterator[None]:
    """Keep other processes out of a folder.

    Args:
        refusal: what to say where another one is at it.

    Raises:
        UsageError: a link, or another user's folder.
        PaucError: another process holds it.
    """
    require_own(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
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
    # a file system without locks; then whoever starts two runs on one output loses work
    except OSError:
        pass
