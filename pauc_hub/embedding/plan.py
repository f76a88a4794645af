"""What a run of embedding makes, in which form, and whether another made the same. D width."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import UnfinishedRun, UsageError
from pauc_hub.tables.outputs import Dtype, in_half
from pauc_hub.tables.table import Provenance

PLAN_FORMAT = 4  # of the working folder
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
    "list_sha256": "list of images",
    "dtype": "dtype",
    "pca": "pca",
}
# their values are no use to the eye
HIDDEN = {"weights_sha256", "preprocessing", "format_version", "list_sha256"}


@dataclass(frozen=True)
class Plan:
    """What a run makes. It goes on after a stop where all of this is as it was."""

    provenance: Provenance
    width: int
    images: int | None
    """None where counting them would mean reading them."""
    list_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Flat, so that a difference can be named by its key."""
        images = {"width": self.width, "images": self.images, "list_sha256": self.list_sha256}
        return {
            key: value for key, value in asdict(self.provenance).items() if key != "pca"
        } | images

    def to_run(self) -> dict[str, Any]:
        """What the working folder notes of it."""
        return {"format_version": PLAN_FORMAT} | self.to_json()

    def require_same(self, run: Path, output: Path) -> None:
        """Raise UnfinishedRun where the run described in the file `run`, for `output`, made
        something else.
        """
        try:
            changed = differences(json.loads(run.read_bytes()), self.to_run())
        except (OSError, ValueError, AttributeError) as error:
            raise UnfinishedRun(
                f"'{run}' is damaged. Give restart=True to drop it and start anew."
            ) from error
        if changed:
            raise UnfinishedRun(
                f"an unfinished run for '{output}' had another {changed}. "
                "Give the same command to go on with it, or restart=True to drop it and start anew."
            )


@dataclass(frozen=True)
class Form:
    """Of the numbers in the files; a stopped run may go on with another."""

    dtype: Dtype = "float32"
    pca: int | None = None
    """Principal components to keep; all numbers as the model gives them, unless given."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def width(self, plan: Plan) -> int:
        return self.pca or plan.width

    def require_fit(self, plan: Plan) -> None:
        """Raise UsageError where the images cannot have so many components."""
        limit = plan.width if plan.images is None else min(plan.width, plan.images)
        if self.pca and self.pca > limit:
            of = f"{plan.width} numbers" if limit == plan.width else f"{plan.images} images"
            raise UsageError(f"pca={self.pca} is more than {of} can have. Give {limit} or less.")

    def require_room(self, paths: Sequence[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Raise PaucError where the form cannot hold numbers as the model gives them.

        What becomes of them under a PCA is only known when all are there.
        """
        if self.dtype == "float16" and not self.pca:
            in_half(paths, embeddings)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, what is not now as it was then; empty where all is."""
    changed = [key for key in now if then.get(key) != now[key]]
    return ", ".join(_difference(key, then.get(key), now[key]) for key in changed)


def _difference(key: str, then: object, now: object) -> str:
    return NAMES[key] + (f" ({then}, now {now})" if key not in HIDDEN else "")
