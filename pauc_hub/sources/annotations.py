"""What is known of images beside their pixels: labels and groups, from folders, a file, Parquet
columns or tars.

Images go by the names that they have in an embedding table.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pauc_hub.errors import UsageError
from pauc_hub.sources.label_columns import (
    IN_ROWS,
    IN_TAR,
    LABEL_COLUMNS,
    columns_of_rows,
    labels_in_tars,
    texts,
)
from pauc_hub.sources.labelled_folders import IMAGES, SPLIT_NAMES, listed_labels

Label = str | tuple[str, ...]
"""A tuple where an image may have several, or none."""

PATH_COLUMN = "path"
LOOKED_THROUGH = 20_000
"""Names among which the nearest to one that matches none is sought."""
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True)
class WantedColumns:
    """Which columns to read."""

    label: str | None = None
    """Found by its kind or name where none is given."""
    group: str | None = None
    difficult: str | None = None


@dataclass(frozen=True)
class Annotations:
    """What is known of N images, in their order."""

    labels: list[Label | None]
    groups: list[str] | None = None
    """Empty for an image without one."""
    difficult: list[tuple[str, ...]] | None = None
    """Classes that are hard to tell in an image."""
    splits: list[str] | None = None
    """`train`, `val` or `test`, where the folders say so."""
    note: str | None = None
    """What a user should know of how names were matched."""


@dataclass(frozen=True)
class LabelsFile:
    """A CSV or Parquet file with a column `path` and one of labels."""

    path: Path
    columns: dict[str, list[Any]]


def annotate(
    names: Sequence[str], root: str, file: LabelsFile | None, wanted: WantedColumns
) -> Annotations:
    """Labels, groups and splits of images.

    Args:
        names: N > 0, as they stand in a table.
        root: of the table: the source of the images, which is read again where labels lie in it.
        file: what read_labels_file() gave; it goes before everything else.

    Raises:
        UsageError: labels are missing or do not match; the line says which, and how to give them.
        PaucError: the source cannot be read.
    """
    if file:
        return _from_file(names, root, file, wanted)
    if IN_ROWS.fullmatch(names[0]):
        column, read = columns_of_rows(names, root, wanted.label)
        return replace(_from_columns(read, column, wanted), splits=_splits_of_files(names))
    if given := [name for name in (wanted.label, wanted.group, wanted.difficult) if name]:
        raise UsageError(
            f"the images have no column '{given[0]}': they come from folders or tars. "
            "Give labels=FILE.csv with the columns path, label and this one."
        )
    if IN_TAR.fullmatch(names[0]):
        return Annotations(list(labels_in_tars(names, root)))
    return _from_folders(names, root)


def read_labels_file(path: Path, wanted: WantedColumns) -> LabelsFile:
    """Read a file of labels, so that what is wrong with it shows before any work.

    Raises:
        UsageError: no such file, neither CSV nor Parquet, empty, or without a column that is
            needed.
    """
    try:
        columns = _read_parquet(path, wanted) if path.suffix == ".parquet" else _read_csv(path)
    except OSError as error:
        raise UsageError(f"labels '{path}' cannot be read ({error.strerror or error}).") from error
    except (csv.Error, ValueError) as error:
        raise UsageError(
            f"labels '{path}' is neither CSV in UTF-8 nor Parquet ({error})."
        ) from error
    label = wanted.label or next(
        (name for name in LABEL_COLUMNS if name in columns), LABEL_COLUMNS[0]
    )
    for name in (PATH_COLUMN, label, wanted.group, wanted.difficult):
        if name and name not in columns:
            close = get_close_matches(name, columns, n=1)
            near = f" Is it '{close[0]}'?" if close else ""
            raise UsageError(
                f"labels '{path}' has no column '{name}' (its columns: {', '.join(columns)}).{near}"
            )
    if not columns[PATH_COLUMN]:
        raise UsageError(f"labels '{path}' holds no rows.")
    return LabelsFile(path, columns)


def first_folders(names: Sequence[str]) -> Annotations:
    """The first folder of each name as its label; below the folders of splits, the second.

    First folders are splits where all of them have the name of one, and `train` is among them with
    another.
    """
    parts = [name.split("/") for name in names]
    splits = [SPLIT_OF.get(part[0].lower(), "") if len(part) > 2 else "" for part in parts]
    if all(splits) and "train" in splits and len({*splits}) > 1:
        return Annotations([part[1] for part in parts], splits=splits)
    return Annotations([part[0] if len(part) > 1 else None for part in parts])


def _splits_of_files(names: Sequence[str]) -> list[str] | None:
    """By names of Parquet files such as `train-00000-of-00002.parquet`, where all of them say one,
    as for folders.
    """
    files = [match[1] if (match := IN_ROWS.fullmatch(name)) else "" for name in names]
    split_of = {}
    for file in {*files}:
        words = re.split(r"[^a-z0-9]+", file.rpartition("/")[2].lower())
        found = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
        split_of[file] = found.pop() if len(found) == 1 else ""
    splits = {*split_of.values()}
    if "" in splits or "train" not in splits or len(splits) < 2:
        return None
    return [split_of[file] for file in files]


def _from_folders(names: Sequence[str], root: str) -> Annotations:
    found = first_folders(names)
    if found.splits and (listed := listed_labels(Path(root))):
        known = [None if label == IMAGES else label for label in found.labels]
        return replace(
            found,
            labels=[listed.get(name, label) for name, label in zip(names, known, strict=True)],
        )
    if not any(found.labels):
        others = f" and {len(names) - 1} others lie" if len(names) > 1 else " lies"
        raise UsageError(
            f"no labels: '{names[0]}'{others} in no folder that could be a class. "
            "Give labels=FILE.csv with the columns path and label."
        )
    return found


def _from_columns(
    read: Callable[[str], list[Any]], column: str, wanted: WantedColumns
) -> Annotations:
    """Take what `read` gives: texts, tuples of texts, or None for each image."""
    groups = (
        None
        if wanted.group is None
        else ["" if value is None else str(value) for value in read(wanted.group)]
    )
    difficult = None
    if wanted.difficult is not None:
        difficult = [
            (value,) if isinstance(value, str) else value or () for value in read(wanted.difficult)
        ]
    return Annotations(read(column), groups, difficult)


def _from_file(
    names: Sequence[str], root: str, file: LabelsFile, wanted: WantedColumns
) -> Annotations:
    keys = [_relative(str(path), root) for path in file.columns[PATH_COLUMN]]
    if twice := _first_repeated(keys):
        raise UsageError(
            f"labels '{file.path}' holds the path '{twice}' twice. Every path must stand there "
            "once."
        )
    places = _match(names, keys)
    matched = {place for place in places if place is not None}
    strays = [key for i, key in enumerate(keys) if i not in matched]
    if not matched:
        raise UsageError(
            f"none of the {len(keys)} paths in labels '{file.path}' is that of an image: "
            f"{_nearest(keys[0], names)}"
        )

    def read(column: str) -> list[Any]:
        values = file.columns[column]
        return [None if place is None else values[place] for place in places]

    column = wanted.label or next(name for name in LABEL_COLUMNS if name in file.columns)
    found = _from_columns(read, column, wanted)
    note = f"{len(strays)} of {len(keys)} paths in '{file.path}' match no image" if strays else None
    if note:
        note += f": {_nearest(strays[0], names)}"
    return Annotations(found.labels, found.groups, found.difficult, note=note)


def _match(names: Sequence[str], keys: Sequence[str]) -> list[int | None]:
    """Which key each name is; where none is any, the files' own names are compared, if no two are
    the same.
    """
    index = {key: i for i, key in enumerate(keys)}
    if any(name in index for name in names):
        return [index.get(name) for name in names]
    own = [key.rpartition("/")[2] for key in keys]
    ends = [name.rpartition("/")[2] for name in names]
    if _first_repeated(own) or _first_repeated(ends):
        return [None] * len(names)
    index = {key: i for i, key in enumerate(own)}
    return [index.get(end) for end in ends]


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root.rstrip("/") + "/").removeprefix("./")


def _first_repeated(values: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _nearest(path: str, names: Sequence[str]) -> str:
    close = get_close_matches(path, names[:LOOKED_THROUGH], n=1, cutoff=0.3)
    return f"'{path}' is not there; the nearest is '{close[0] if close else names[0]}'."


def _read_csv(path: Path) -> dict[str, list[Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        rows = [row for row in reader if row]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise csv.Error(f"row {number} has {len(row)} fields, and the header {len(header)}")
    cells = [[row[column].strip() or None for row in rows] for column in range(len(header))]
    return dict(zip(header, cells, strict=True))


def _read_parquet(path: Path, wanted: WantedColumns) -> dict[str, list[Any]]:
    """The columns that are wanted; others stand there without their values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = {PATH_COLUMN, *LABEL_COLUMNS, wanted.label, wanted.group, wanted.difficult}
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    return {
        name: texts(table[name], table.schema, name) if name in needed else []
        for name in table.column_names
    }
