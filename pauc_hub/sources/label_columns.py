"""Labels that lie in the source itself: columns of Parquet files beside the images, and `.cls`
members of tars.
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.sources.rows import SUFFIX_OF_ROWS, ParquetRows
from pauc_hub.sources.stored import File, why
from pauc_hub.sources.tars import SUFFIXES_OF_TARS, Archives

if TYPE_CHECKING:
    import pyarrow as pa

LABEL_COLUMNS = ("label", "labels")
CLASS_SUFFIX = ".cls"
LONGEST_CLASS = 1000
"""Bytes of a `.cls` member that are read."""
IN_ROWS = re.compile(
    rf"(.+{re.escape(SUFFIX_OF_ROWS)})/(\d{{9}})(?:/.*)?", re.IGNORECASE | re.DOTALL
)
IN_TAR = re.compile(
    rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES_OF_TARS))}))/(.+)", re.IGNORECASE | re.DOTALL
)
WAY_OUT = "Give labels=FILE.csv with the columns path and label."


def columns_of_rows(
    names: Sequence[str], root: str, label: str | None
) -> tuple[str, Callable[[str], list[Any]]]:
    """The column of labels of images from Parquet files, and a function that reads a column for
    these images.

    Args:
        names: as rows.py names images, `FILE.parquet/ROW/…`.
        label: the column, if it is known.

    Raises:
        UsageError: the files have gone, or have no such column, or no column that must be that of
            labels.
    """
    places = [match.groups() for name in names if (match := IN_ROWS.fullmatch(name))]
    source = _open(root)
    if not isinstance(source, ParquetRows) or len(places) < len(names):
        raise UsageError(
            f"'{root}' does not hold the Parquet files alone that the images come from. {WAY_OUT}"
        )
    files = {part.file.name: part.file for part in source.parts}
    for name, _ in places:
        if name not in files:
            raise UsageError(
                f"'{name}' is no longer in '{root}', and its labels with it. {WAY_OUT}"
            )
    used = list(dict.fromkeys(name for name, _ in places))
    column = label or _label_column(files[used[0]])

    def read(wanted: str) -> list[Any]:
        values = {name: _read_column(files[name], wanted, column) for name in used}
        return [values[name][int(row)] for name, row in places]

    return column, read


def labels_in_tars(names: Sequence[str], root: str) -> Iterator[str | None]:
    """What the `.cls` member of the same key says of each image from tars.

    Raises:
        UsageError: the tars have gone, or there is not one such member.
    """
    source = _open(root)
    if not isinstance(source, Archives):
        raise UsageError(f"'{root}' no longer holds the tars that the images come from. {WAY_OUT}")
    found: dict[str, str] = {}
    for file in source.files:
        found.update(_classes(file))
    if not found:
        raise UsageError(
            f"no labels: the tars in '{root}' hold no member that ends in {CLASS_SUFFIX}. {WAY_OUT}"
        )
    return (found.get(_key(name)) for name in names)


def texts(
    column: "pa.ChunkedArray", schema: "pa.Schema", name: str, like: str | None = None
) -> list[Any]:
    """The values as texts, tuples of texts, or None.

    Numbers of classes get their names where the metadata of the `datasets` library has them; -1 is
    no class there.

    Args:
        like: another column, whose names count where this one has lists of numbers without names.

    Raises:
        UsageError: the values are neither text nor whole numbers, nor lists of them.
    """
    import pyarrow as pa

    several = any(
        test(column.type)
        for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )
    kind = column.type.value_type if several else column.type
    known = (
        pa.types.is_integer,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_boolean,
        pa.types.is_null,
    )
    if not any(test(kind) for test in known):
        raise UsageError(
            f"column '{name}' holds {column.type}, and neither text nor whole numbers, nor "
            "lists of them."
        )
    classes = _class_names(schema, name) or (
        _class_names(schema, like) if like and several else None
    )

    def text(value: Any) -> str | None:
        if value is None or (classes and isinstance(value, int) and not 0 <= value < len(classes)):
            return None
        return classes[value] if classes and isinstance(value, int) else str(value)

    values = column.to_pylist()
    if not several:
        return [text(value) for value in values]
    return [
        None if each is None else tuple(t for value in each if (t := text(value)) is not None)
        for each in values
    ]


def _open(root: str) -> Any:
    from pauc_hub.sources import open_source

    return open_source(root)


def _label_column(file: File) -> str:
    schema = _schema(file)
    marked = [name for name in schema.names if _class_names(schema, name) is not None]
    named = [name for name in LABEL_COLUMNS if name in schema.names]
    if len(marked) == 1 or named:
        return named[0] if named else marked[0]
    among = (
        f"several columns of classes ({', '.join(marked)})"
        if marked
        else f"no column '{LABEL_COLUMNS[0]}'"
    )
    raise UsageError(
        f"'{file.name}' has {among}; its columns are {', '.join(schema.names)}. Say which one "
        "holds the labels."
    )


def _schema(file: File) -> "pa.Schema":
    import pyarrow.parquet as pq

    with _telling(file), file.open() as stream, pq.ParquetFile(stream) as parquet:
        return parquet.schema_arrow


def _read_column(file: File, column: str, like: str) -> list[Any]:
    import pyarrow.parquet as pq

    with _telling(file), file.open() as stream, pq.ParquetFile(stream) as parquet:
        schema = parquet.schema_arrow
        if column not in schema.names:
            raise UsageError(
                f"'{file.name}' has no column '{column}'; its columns are "
                f"{', '.join(schema.names)}."
            )
        return texts(parquet.read(columns=[column])[column], schema, column, like)


def _class_names(schema: "pa.Schema", column: str) -> list[str] | None:
    """As the `datasets` library writes them, of a column of class numbers or of lists of them."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        for inner in ("feature", "_feature"):
            if isinstance(feature, dict) and "names" not in feature and inner in feature:
                feature = feature[inner]
        if isinstance(feature, list):
            feature = feature[0]
        names = feature["names"]
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _classes(file: File) -> Iterator[tuple[str, str]]:
    """Key and class of each `.cls` member."""
    compressed = not file.name.lower().endswith(".tar")
    with (
        _telling(file),
        file.open() as raw,
        tarfile.open(fileobj=raw, mode="r:gz" if compressed else "r:") as tar,
    ):
        for member in tar:
            if (
                member.isreg()
                and member.name.endswith(CLASS_SUFFIX)
                and (content := tar.extractfile(member))
            ):
                text = content.read(LONGEST_CLASS).decode("utf-8", "backslashreplace").strip()
                name = f"{file.name}/{readable(member.name.removeprefix('./'))}"
                yield _key(name), text


def _key(name: str) -> str:
    """As WebDataset has it: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


@contextmanager
def _telling(file: File) -> Iterator[None]:
    """Say in one line that a file of the source cannot be read."""
    try:
        yield
    except PaucError:
        raise
    except Exception as error:  # of Arrow, tarfile, the system, the network
        raise PaucError(
            f"'{file.name}' cannot be read for its labels ({why(error)[1]})."
        ) from error
