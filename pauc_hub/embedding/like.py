"""Embedding as an earlier table was made: model, space, decoding, value range and bands are taken
from it.
"""

from dataclasses import dataclass
from pathlib import Path

from pauc_hub.errors import PaucError, TableError, UnknownModel, UsageError
from pauc_hub.images.reading import Reading
from pauc_hub.models.catalog import locate
from pauc_hub.tables.stored import open_table
from pauc_hub.tables.table import Provenance


@dataclass(frozen=True)
class Manner:
    """How images are embedded."""

    model: str | Path
    space: str
    decoding: str
    reading: Reading
    image_size: int | None = None
    """Side of the square that the network sees, in pixels; None is the model's own."""


def manner_of(
    like: Path, model: str | Path | None, space: str | None, decoding: str | None, reading: Reading
) -> Manner:
    """What made a table.

    Args:
        like: the table.
        model: where the table's own name for it does not lead there.
        space, decoding, reading: as they were asked for besides, if they were.

    Raises:
        UsageError: something other than what made the table is asked for.
        UnknownModel: the table's name for its model leads nowhere.
        TableError: there is no such table.
    """
    made = open_table(like).provenance
    if made.pca:
        raise UsageError(
            f"'{like}' holds principal components, and images cannot be embedded like that."
        )
    then = made.preprocessing.get("decoding", "exact")
    _require_same("space", space, made.space, like)
    _require_same("decoding", decoding, then, like)
    _require_same("value_range", reading.value_range, made.reading.value_range, like)
    _require_same("bands", reading.bands or None, made.reading.bands, like)
    if model is None:
        _require_known(like, made)
    side = made.preprocessing.get("input_size", [None])[-1]
    return Manner(model or made.model, made.space, then, made.reading, side)


def require_made_by(like: Path, weights_sha256: str, preprocessing: dict[str, object]) -> None:
    """Raise TableError where a model is not the one that made the table, or prepares images
    otherwise.
    """
    made = open_table(like).provenance
    if weights_sha256 != made.weights_sha256:
        raise TableError(
            f"'{like}' was made by '{made.model}' with weights of sha256 "
            f"{made.weights_sha256[:12]}…, and those "
            f"at hand have {weights_sha256[:12]}…. Give the model that made it."
        )
    if preprocessing != {key: made.preprocessing.get(key) for key in preprocessing}:
        raise TableError(
            f"the model prepares images otherwise than it did for '{like}'. Embed those again."
        )


def _require_same(name: str, given: object, made: object, like: Path) -> None:
    if given is not None and given != made:
        value = ",".join(f"{part:g}" for part in given) if isinstance(given, tuple) else given
        raise UsageError(f"{name}={value} is not what '{like}' was made with: leave it out.")


def _require_known(like: Path, made: Provenance) -> None:
    try:
        locate(made.model)
    except PaucError as error:
        raise UnknownModel(
            f"'{like}' was made by a model named '{made.model}', which is none of those here by "
            "name. Give it as model."
        ) from error
