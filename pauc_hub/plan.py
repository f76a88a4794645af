"""What a run of embedding makes, and whether a stopped run may go on as it. D width."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pauc_hub.errors import UnfinishedRun
from pauc_hub.table import Provenance

FORMAT_VERSION = 1  # of the working folder
NAMES = {  # of what can change, for people
    "model": "model",
    "weights_sha256": "weights",
    "space": "space",
    "preprocessing": "preprocessing",
    "precision": "precision",
    "root": "folder of images",
    "package_version": "version of pauc-hub",
    "format_version": "format of the working folder",
    "width": "width",
    "images": "number of images",
    "list_sha256": "names of images",
}
SHOWN = {"model", "space", "precision", "root", "package_version", "images"}  # the others are no use to the eye


@dataclass(frozen=True)
class Plan:
    """What a run makes. It goes on after a stop where all of this is as it was."""

    provenance: Provenance
    width: int
    images: int
    list_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Flat, so that a difference can be named by its key."""
        fixed = {"format_version": FORMAT_VERSION, "width": self.width}
        return asdict(self.provenance) | fixed | {"images": self.images, "list_sha256": self.list_sha256}

    def require_same(self, run: Path, output: Path) -> None:
        """Raise UnfinishedRun where the run described in the file `run`, for `output`, made something else."""
        now = self.to_json()
        try:
            then = json.loads(run.read_bytes())
            changed = [key for key in now if then.get(key) != now[key]]
        except (OSError, ValueError, AttributeError) as error:
            raise UnfinishedRun(f"'{run}' is damaged. Give --restart to drop it and start anew.") from error
        if changed:
            differences = ", ".join(_difference(key, then.get(key), now[key]) for key in changed)
            raise UnfinishedRun(
                f"an unfinished run for '{output}' had another {differences}. "
                "Give the same command to go on with it, or --restart to drop it and start anew."
            )


def fingerprint(names: Iterable[str]) -> str:
    """The sha256 of a list of images, by their names."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0")
    return digest.hexdigest()


def _difference(key: str, then: object, now: object) -> str:
    return NAMES[key] + (f" ({then}, now {now})" if key in SHOWN else "")
