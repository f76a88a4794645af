"""What a verb is given: an embedding table, or images, which are embedded first. N rows, D
width.
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pauc_hub.embedding.embed import embed
from pauc_hub.errors import OutputExists, PaucError, TableError, UnknownModel, UsageError
from pauc_hub.images.reading import Reading
from pauc_hub.models.catalog import DEFAULT_MODEL, locate
from pauc_hub.origin import Origin, require_same_origin
from pauc_hub.sources import open_source
from pauc_hub.tables.stored import (
    TABLE_ROWS_TOGETHER,
    Stored,
    is_table,
    open_table,
    read_names,
    read_receipt,
)
from pauc_hub.tables.table import PARQUET, companion, table_of
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.embedding.embed_files import Summary

EMBEDDINGS_SUFFIX = ".embeddings.parquet"
ANOTHER_TABLE = "the table of another model, space or value range"


@dataclass(frozen=True, eq=False)
class Given:
    """A table that was looked at, and of which no row was read."""

    path: Path
    table: Stored
    unreadable: int = 0
    """Images that belong in it and could not be read."""

    @property
    def origin(self) -> Origin:
        return self.table.provenance.origin

    @property
    def rows(self) -> int:
        return self.table.rows

    @property
    def width(self) -> int:
        return self.table.width


@dataclass(frozen=True, eq=False)
class TableRows:
    """Some neighbouring rows of a table."""

    start: int
    """Row of the table that the first one is."""
    paths: list[str]
    vectors: npt.NDArray[np.float32]
    """(n, D), as the table has them."""


def open_input(
    place: str | Path,
    *,
    model: str | Path | None = None,
    space: str = "backbone",
    like: Origin | None = None,
    like_name: object = None,
    table: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Given:
    """Open a table, or embed images and open the table of them, which is kept and used again.

    Args:
        place: a table, or whatever embed() takes: a folder, image, tar or Parquet file, list,
            pattern or URL.
        model: what embeds images: that of `like`, else `pauc_resnet18`, unless given. No matter for
            a table.
        space: to embed images in; that of `like` where it is given.
        like: what the rows must have been made by.
        like_name: the file that says so, for messages.
        table: where the table of images is kept: beside them, as embed() names it, unless given.
        device: to embed images on.
        quiet: neither a progress bar nor a word on stderr.

    Raises:
        OriginMismatch: the table was made by another origin than `like`.
        TableError: the table is damaged, holds no row, or has one path twice.
        PaucError: as embed() does.
    """
    path = Path(place)
    given = Given(path, open_table(path)) if is_table(path) else None
    if given is None:
        made = _embedded(
            str(place), model, like.space if like else space, like, table, device, quiet
        )
        given = Given(made.output, open_table(made.output), made.unreadable)
    if like:
        require_same_origin(given.origin, given.path, like, like_name or like.model)
    _require_rows(given)
    return given


def rows_of(given: Given, together: int = TABLE_ROWS_TOGETHER) -> Iterator[TableRows]:
    """The rows of a table in stretches of at most `together`, of which one is in memory at a time.

    Raises:
        TableError: an embedding holds a number that is not finite; the line names its image.
    """
    start = 0
    for batch in given.table.batches(together):
        vectors = batch.embeddings.astype(np.float32, copy=False)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = batch.paths[int(np.argmin(finite))]
            raise TableError(
                f"'{given.path}' holds NaN or infinity in the embedding of '{name}'. Embed it "
                "again."
            )
        yield TableRows(start, batch.paths, vectors)
        start += len(batch.paths)


def _embedded(
    place: str,
    model: str | Path | None,
    space: str,
    like: Origin | None,
    table: str | Path | None,
    device: str,
    quiet: bool,
) -> "Summary":
    """Embed images into the table that is there, where it is theirs, or into a new one."""
    chosen = model or (like.model if like else DEFAULT_MODEL)
    first = Path(table) if table else _beside(place)
    options: dict[str, Any] = {"space": space, "device": device, "quiet": quiet}
    if like:
        reading = Reading.from_config(like.preprocessing)
        # An empty one: what these images would be measured to have is not what they are to be
        # compared by.
        value_range = {} if reading.value_range is None else reading.value_range
        options |= {"value_range": value_range, "bands": reading.bands}
        options |= {"decoding": like.preprocessing.get("decoding", "exact")}
        if "input_size" in like.preprocessing:
            options |= {"image_size": like.preprocessing["input_size"][-1]}
    if not quiet:
        print(escaped(f"embedding {place} by {chosen} into {first}"), file=sys.stderr)
    if like and not model:
        _require_known(like)
    receipt = read_receipt(first) if first.exists() else None
    made = (
        None
        if receipt and receipt.get("space") != space
        else _embed_into(first, place, chosen, receipt, options)
    )
    if made is None and table:
        raise OutputExists(f"'{first}' is {ANOTHER_TABLE}. Name another place, table=PLACE.")
    if made is None:
        first = companion(first, f".{Path(chosen).name}-{space}{PARQUET}")
        receipt = read_receipt(first) if first.exists() else None
        if not quiet:
            print(escaped(f"that is {ANOTHER_TABLE}; embedding into {first}"), file=sys.stderr)
        made = _embed_into(first, place, chosen, receipt, options)
        if made is None:
            raise OutputExists(
                f"'{first}' is {ANOTHER_TABLE}. `pauc embed {shlex.quote(place)} -o "
                "NAME.parquet`, and give that."
            )
    if made.unreadable and not quiet:
        count = made.images + made.unreadable
        print(
            (
                f"warning: {made.unreadable} of {count} images could not be read; listed in "
                f"{made.errors}"
            ),
            file=sys.stderr,
        )
    return made


def _require_known(origin: Origin) -> None:
    """Raise UnknownModel where the name in an origin leads to no model here, as those of runs may
    not.
    """
    try:
        locate(origin.model)
    except PaucError as error:
        raise UnknownModel(
            f"'{origin.model}', which the images are to be embedded by, is no model here by name. "
            "Name its folder, model=FOLDER."
        ) from error


def _beside(place: str) -> Path:
    if Path(place).suffix == PARQUET and Path(place).is_file():
        # images in Parquet, whose own name the table would have
        return companion(Path(place), EMBEDDINGS_SUFFIX)
    try:
        return table_of(place)
    except UsageError as error:
        # which says if there is nothing at all
        open_source(place)
        raise UsageError(
            f"the table of '{place}' needs a place: `pauc embed {shlex.quote(place)} -o "
            "NAME.parquet`, and give that."
        ) from error


def _embed_into(
    output: Path,
    place: str,
    model: str | Path,
    receipt: dict[str, Any] | None,
    options: dict[str, Any],
) -> "Summary | None":
    """Make a table, find it complete, or bring it up to date in the form that it has; None where it
    is another's.
    """
    form = {"dtype": receipt.get("dtype", "float32"), "pca": receipt.get("pca")} if receipt else {}
    try:
        return embed(place, model, output=output, **form, **options)
    except OutputExists:
        if not receipt:
            raise
    if not Path(place).is_dir():
        return None
    try:
        return embed(place, model, output=output, update=True, **form, **options)
    except (OutputExists, UsageError):
        return None


def _require_rows(given: Given) -> None:
    if given.rows == 0:
        raise TableError(f"'{given.path}' holds no images.")
    if (twice := _repeated(given.path, given.rows)) is not None:
        raise TableError(
            f"'{given.path}' holds the path '{twice}' twice. Every path must stand there once."
        )


def _repeated(path: Path, rows: int) -> str | None:
    """A path that a table holds more than once; of each name eight bytes are held."""
    marks = np.fromiter((hash(name) for name in read_names(path)), np.int64, rows)
    values, counts = np.unique(marks, return_counts=True)
    if len(values) == rows:
        return None
    suspects = {int(mark) for mark in values[counts > 1]}
    seen: set[str] = set()
    for name in read_names(path):
        if hash(name) in suspects:
            if name in seen:
                return name
            seen.add(name)
    return None
