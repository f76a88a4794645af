"""Tables as they lie on the disk: looked at, then read whole, in stretches, or in part. N rows, D
width.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from pauc_hub.errors import TableError
from pauc_hub.tables.outputs import INDEX_SUFFIX, RECEIPT_KEY, files_of, pca_path
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import ERRORS_SUFFIX, PARQUET, Provenance, Table, parquet_file
from pauc_hub.tables.vectors import NPY, SAFETENSORS, TABLE_KEY, Flat, open_flat

# read at a time
TABLE_ROWS_TOGETHER = 8192
# bytes read at a time from a column, whose row group may be large where others wrote it
BUFFER = 1 << 20
# in the names of parts
OF = re.compile(r"-of-(\d+)\.")


@dataclass(frozen=True, eq=False)
class Stored:
    """A table that was looked at, and of which no row was read."""

    files: list[Path]
    """Of Parquet."""
    rows: int
    flat: Flat | None
    """Where the embeddings are, if they are elsewhere."""
    width: int
    dtype: np.dtype[Any]
    provenance: Provenance

    def belongs_to(self, other: Self) -> bool:
        own = (self.width, self.dtype, self.provenance)
        return own == (other.width, other.dtype, other.provenance)

    def batches(self, rows: int = TABLE_ROWS_TOGETHER) -> Iterator[Table]:
        """The rows in stretches of at most so many, of which one is in memory at a time."""
        start = 0
        for path in self.files:
            with parquet_file(path, buffer_size=BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(rows):
                    yield self._table(batch, start)
                    start += batch.num_rows

    def _table(self, batch: pa.RecordBatch, start: int) -> Table:
        if self.flat is None:
            numbers = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
            vectors = numbers.reshape(batch.num_rows, self.width)
        else:
            vectors = self.flat.map(start, start + batch.num_rows)
        sizes = np.stack([batch["width"].to_numpy(), batch["height"].to_numpy()], axis=1)
        return Table(batch["path"].to_pylist(), vectors, sizes, self.provenance)


def is_table(path: Path) -> bool:
    """Whether an embedding table stands there, damaged or not; images in Parquet or in a folder are
    none.
    """
    if path.suffix in (NPY, SAFETENSORS):
        return path.is_file()
    file = next(iter(sorted(path.glob(f"part-*{PARQUET}"))), None) if path.is_dir() else path
    if file is None or file.suffix != PARQUET or not file.is_file():
        return False
    try:
        with parquet_file(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
            return TABLE_KEY.encode() in (parquet.schema_arrow.metadata or {})
    except TableError:
        return False


def open_table(path: Path) -> Stored:
    """Look at a table of any form, or at a folder of `part-*.parquet`, which are one table in the
    order of their names.

    No file is kept open: there may be more parts than a process may have open files.

    Raises:
        TableError: not a table of this package or this format, or parts that do not belong
            together.
    """
    names = _parts(path) if path.is_dir() else [path]
    parts = [_look_at(name) for name in names]
    for name, part in zip(names, parts, strict=True):
        if not part.belongs_to(parts[0]):
            raise TableError(
                f"'{path}' holds parts of different tables: {name.name} was made by another "
                f"model or otherwise than {names[0].name}."
            )
    files = [file for part in parts for file in part.files]
    return replace(parts[0], files=files, rows=sum(part.rows for part in parts))


def read_table(path: str | Path) -> Table:
    """Read a table whole; embeddings in a flat file are mapped.

        >>> table = read_table("photos.parquet")
        >>> table.paths[0], table.embeddings.shape
        ('animals/chelsea the cat.jpg', (15, 512))

    Raises:
        TableError: as open_table().
    """
    stored = open_table(Path(path))
    paths: list[str] = []
    sizes = np.empty((stored.rows, 2), np.int32)
    mapped = stored.flat.map(0, stored.rows) if stored.flat else None
    embeddings = np.empty((stored.rows, stored.width), stored.dtype) if mapped is None else mapped
    for batch in stored.batches():
        rows = slice(len(paths), len(paths) + len(batch.paths))
        paths += batch.paths
        sizes[rows] = batch.sizes
        if mapped is None:
            embeddings[rows] = batch.embeddings
    return Table(paths, embeddings, sizes, stored.provenance)


def read_batches(path: Path, rows: int = TABLE_ROWS_TOGETHER) -> Iterator[Table]:
    """Read a table in stretches of at most `rows`, of which one is in memory at a time.

    Raises:
        TableError: as open_table().
    """
    return open_table(path).batches(rows)


def read_provenance(path: Path) -> Provenance:
    """What is said in a table about where it comes from.

    Raises:
        TableError: as open_table().
    """
    return open_table(path).provenance


def read_names(path: Path) -> Iterator[str]:
    """The paths of a table's images, in its order; nothing else is read.

    Raises:
        TableError: as open_table().
    """
    for file in open_table(path).files:
        with parquet_file(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(TABLE_ROWS_TOGETHER, columns=["path"]):
                yield from batch["path"].to_pylist()


def read_receipt(path: Path) -> dict[str, Any] | None:
    """What the run that made the file at `path` noted of itself; None where it is no table of a
    run.
    """
    try:
        with parquet_file(files_of(path)[-1], buffer_size=BUFFER, pre_buffer=False) as file:
            metadata = file.schema_arrow.metadata or {}
            receipt: dict[str, Any] = json.loads(metadata.get(RECEIPT_KEY, b"{}"))
            return receipt or None
    except TableError:
        return None


def read_pca(path: Path) -> Pca | None:
    """The projection that the embeddings of the table at `path` went through, if any.

    Raises:
        TableError: as open_table(), or it is missing, or another.
    """
    expected = read_provenance(path).pca
    if expected is None:
        return None
    pca = Pca.read(pca_path(path))
    if pca.sha256 != expected:
        raise TableError(f"'{pca_path(path)}' is not the PCA that '{path}' was made with.")
    return pca


def _parts(folder: Path) -> list[Path]:
    companions = (ERRORS_SUFFIX, INDEX_SUFFIX)
    parts = [path for path in folder.glob(f"part-*{PARQUET}") if not path.name.endswith(companions)]
    if not parts:
        raise TableError(f"'{folder}' holds no part-*{PARQUET}.")
    if (found := OF.search(parts[0].name)) and len(parts) < int(found[1]):
        raise TableError(
            f"'{folder}' holds {len(parts)} of its {int(found[1])} parts: the others are not "
            "done yet."
        )
    return sorted(parts)


def _look_at(path: Path) -> Stored:
    """One file of Parquet, or a flat one with its index."""
    flat = open_flat(path) if path.suffix in (NPY, SAFETENSORS) else None
    names = files_of(path)[-1] if flat else path
    with parquet_file(names, buffer_size=BUFFER, pre_buffer=False) as file:
        schema = file.schema_arrow
        rows = file.metadata.num_rows
    about = (schema.metadata or {}).get(TABLE_KEY.encode(), b"")
    provenance = Provenance.from_json(about, names)
    if not {"path", "width", "height"} <= {*schema.names}:
        raise TableError(f"'{names}' lacks a column path, width or height.")
    if flat is None:
        width, dtype = _kind_of(schema, path)
        return Stored([path], rows, None, width, dtype, provenance)
    another = flat.about and Provenance.from_json(flat.about, path) != provenance
    if another or flat.shape[0] != rows:
        raise TableError(f"'{path}' and '{names}' are of different tables.")
    return Stored([names], rows, flat, flat.shape[1], flat.dtype, provenance)


def _kind_of(schema: pa.Schema, path: Path) -> tuple[int, np.dtype[Any]]:
    if "embedding" not in schema.names:
        raise TableError(
            f"'{path}' holds no embeddings. Name the .npy or .safetensors file that it lies beside."
        )
    kind = schema.field("embedding").type
    if pa.types.is_fixed_size_list(kind) and kind.value_type in (pa.float32(), pa.float16()):
        return kind.list_size, np.dtype(kind.value_type.to_pandas_dtype())
    raise TableError(
        f"'{path}' holds embeddings as {kind}, and not as float32 or float16 of one length."
    )
