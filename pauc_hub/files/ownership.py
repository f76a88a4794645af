"""Places with fixed names, which others may have laid where they can write too: a link there is
never followed.
"""

import os
import stat
from pathlib import Path
from tempfile import TemporaryFile

from pauc_hub.errors import UsageError


def require_own(path: Path) -> None:
    """Refuse what stands at a place that this package opens, empties or locks, and did not make
    itself.

    Raises:
        UsageError: a symbolic link, or of another user.
    """
    try:
        found = path.lstat()
    except OSError:
        return  # nothing is there, or whoever opens it says why not
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(
            f"'{path}' is a symbolic link to '{path.readlink()}', and links are not followed "
            "there. "
            "Remove it, or name another place."
        )
    if found.st_uid not in (os.geteuid(), _owner_of_new_files(path.absolute().parent)):
        raise UsageError(
            f"'{path}' belongs to another user (uid {found.st_uid}), and nothing is written "
            "there. Name another place."
        )


def _owner_of_new_files(folder: Path) -> int | None:
    """Some network file systems give all files to one user, whoever makes them; None where none can
    be made.
    """
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return None
