"""The scores file, NAME.scores.json: what `pauc eval` found of one model on one data set, with each
image's answer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pauc_hub.errors import ArtefactError
from pauc_hub.files.atomic import replacing
from pauc_hub.origin import Origin
from pauc_hub.sources.annotations import Label

SCORES_KIND = "pauc.scores"
SCORES_FORMAT = 1
SCORES_SUFFIX = ".scores.json"


@dataclass(frozen=True, eq=False)
class ScoresFile:
    """What a scores file holds."""

    origin: Origin
    """Of the embeddings: the model."""
    data: dict[str, Any]
    """`test`, `images`, `train`, `train_images`, `classes`, and the digests of paths and labels of
    both.
    """
    protocol: dict[str, Any]
    """How images were divided, and the seed: what must be equal for a comparison."""
    settings: dict[str, Any]
    """By evaluation: what was chosen on training images."""
    scores: dict[str, dict[str, Any]]
    """By evaluation and measure: `value`, `low`, `high`; of low shots and clusterings, also
    `draws`.
    """
    intervals: dict[str, str]
    """By evaluation: what the intervals are about."""
    left_out: dict[str, str]
    """What was not measured, and why."""
    predictions: dict[str, Any]
    """Columns of one entry an image: `path`, `label`, `group` or null, `linear`, `knn`,
    `cluster`.
    """
    unreadable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers that there are not are null."""
        found: dict[str, Any] = _plain(
            {
                "kind": SCORES_KIND,
                "format_version": SCORES_FORMAT,
                "model": self.origin.to_dict(),
                "data": self.data,
                "protocol": self.protocol,
                "settings": self.settings,
                "scores": self.scores,
                "intervals": self.intervals,
                "left_out": self.left_out,
                "unreadable": self.unreadable,
                "predictions": self.predictions,
            }
        )
        return found


def write_scores(path: Path, scores: ScoresFile) -> None:
    """Write a scores file: there whole, or not at all."""
    text = json.dumps(scores.to_dict(), ensure_ascii=False, allow_nan=False)
    with replacing(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def read_scores(path: Path) -> ScoresFile:
    """Read a scores file.

    Raises:
        ArtefactError: there is none, it is something else, or of another format.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise ArtefactError(
            f"there is no '{path}'. `pauc eval MODEL IMAGES` makes scores files."
        ) from None
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"'{path}' is no scores file. `pauc eval MODEL IMAGES` makes one."
        ) from error
    if not isinstance(value, dict) or value.get("kind") != SCORES_KIND:
        raise ArtefactError(f"'{path}' is no scores file. `pauc eval MODEL IMAGES` makes one.")
    if value.get("format_version") != SCORES_FORMAT:
        raise ArtefactError(
            f"'{path}' is of format {value.get('format_version')}, and this version reads "
            f"{SCORES_FORMAT}. "
            "Make it again with `pauc eval`."
        )
    try:
        found = ScoresFile(
            Origin.from_dict(value["model"]),
            value["data"],
            value["protocol"],
            value["settings"],
            value["scores"],
            value["intervals"],
            value["left_out"],
            value["predictions"],
            value["unreadable"],
        )
        whole = (
            len(found.predictions["path"])
            == len(found.predictions["label"])
            == found.data["images"]
        )
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ArtefactError(f"'{path}' is damaged. Make it again with `pauc eval`.")
    return found


def digest(paths: Sequence[str], labels: Sequence[Label], groups: Sequence[str] | None) -> str:
    """The sha256 of which images have which labels and groups, in whatever order."""
    rows = sorted(zip(paths, map(str, labels), groups or [""] * len(paths), strict=True))
    text = "\n".join("\t".join(row) for row in rows)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    """The same without NaN or infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
