"""Where a table goes and comes from: Parquet, .npy or safetensors, by the end of its name. N rows,
D width.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pauc_hub.errors import OutputExists, PaucError, TableError, UsageError
from pauc_hub.files.atomic import hidden_sibling, replacing
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import (
    ERRORS_SUFFIX,
    PARQUET,
    SUFFIXES,
    Provenance,
    Sizes,
    Table,
    companion,
    embedding_columns,
    errors_path,
    parquet_file,
    parquet_writer,
    table_schema,
    telling,
)
from pauc_hub.tables.vectors import (
    METADATA_KEY,
    NPY,
    SAFETENSORS,
    Embeddings,
    Flat,
    flat_header,
    open_flat,
)

Dtype = Literal["float32", "float16"]

INDEX_SUFFIX, PCA_SUFFIX = ".index.parquet", ".pca.safetensors"
BYTES_TOGETHER = 1 << 24  # of embeddings held back until they are written together
ROWS_TOGETHER = 8192  # read at a time
OF = re.compile(r"-of-(\d+)\.")  # in the names of parts
RECEIPT_KEY = b"pauc.run"  # of the metadata in Parquet
# bytes read at a time from a column, whose row group may be large where others wrote it
BUFFER = 1 << 20


def files_of(output: Path) -> tuple[Path, ...]:
    """The files that a table consists of: the one with the embeddings, then that with the names, if
    it is another.
    """
    return (output,) if output.suffix == PARQUET else (output, companion(output, INDEX_SUFFIX))


def pca_path(output: Path) -> Path:
    """Where the projection lies that the embeddings went through, if they did."""
    return companion(output, PCA_SUFFIX)


def check_output(output: Path, overwrite: bool) -> None:
    """Find out before any work whether the table can be written.

    Raises:
        UsageError: not a name of a table, or in a folder where nothing can be written.
        OutputExists: it is there, or what belongs to a table of its name, and may not be
            overwritten.
    """
    if output.suffix not in SUFFIXES:
        raise UsageError(
            f"the output '{output}' must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    files = (*files_of(output), errors_path(output), pca_path(output))
    try:
        # without a name, so that no kill can leave it behind
        with TemporaryFile(dir=output.parent):
            pass
        with suppress(FileNotFoundError):
            hidden_sibling(pca_path(output)).lstat()  # the longest name that may be needed
    except OSError as error:
        raise UsageError(
            f"'{output}' cannot be written ({error.strerror}). Name another place."
        ) from error
    for path in files:
        if path.is_dir():
            raise OutputExists(f"'{path}' is a folder. Name another place.")
        if path.exists() and not overwrite:
            raise OutputExists(f"'{path}' exists. Name another place, or give overwrite=True.")


def in_half(paths: Sequence[str], embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """(N, D) embeddings of N images, rounded to float16.

    Raises:
        PaucError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        rounded = embeddings.astype(np.float16)
    too_large = np.argwhere(np.isinf(rounded) & np.isfinite(embeddings))
    if len(too_large):
        row, column = too_large[0]
        raise PaucError(
            f"the embedding of '{paths[row]}' holds {embeddings[row, column]:.6g}, and float16 "
            "ends at 65504. "
            "Give dtype=float32."
        )
    return rounded


class Writer:
    """What open_output() gives."""

    def __init__(
        self,
        width: int,
        dtype: np.dtype[Any],
        pca: Pca | None,
        parquet: pq.ParquetWriter,
        flat: BinaryIO | None,
    ) -> None:
        self.written = 0
        together = max(1, BYTES_TOGETHER // (4 * width))
        self._paths: list[str] = []
        self._sums: list[str | None] = []
        self._embeddings = np.empty((together, width), np.float32)
        self._sizes = np.empty((together, 2), np.int32)
        self._dtype, self._pca, self._parquet, self._flat = dtype, pca, parquet, flat

    def write(
        self,
        paths: Sequence[str],
        embeddings: npt.NDArray[np.float32],
        sizes: Sizes,
        sums: Sequence[str | None] | None = None,
    ) -> None:
        """Add N rows: names, (N, D) embeddings, (N, 2) widths and heights, sha256 of the files
        where known.

        Groups of the same number of rows go to the file however these come, so that the same rows
        give the same file.

        Raises:
            PaucError: a number is too large for float16.
        """
        together, width = self._embeddings.shape
        if embeddings.shape != (len(paths), width):
            raise ValueError(
                f"{len(paths)} names with embeddings of shape {embeddings.shape}, not {width} wide"
            )
        taken = 0
        while taken < len(paths):
            held = len(self._paths)
            part = slice(taken, min(taken + together - held, len(paths)))
            self._paths += paths[part]
            self._sums += [None] * (part.stop - part.start) if sums is None else sums[part]
            self._embeddings[held : len(self._paths)] = embeddings[part]
            self._sizes[held : len(self._paths)] = sizes[part]
            taken = part.stop
            if len(self._paths) == together:
                self.flush()

    def flush(self) -> None:
        """Hand on what is held back: a whole group, or at the end the rest."""
        held = len(self._paths)
        if held:
            stored = self._stored(self._embeddings[:held])
            columns = embedding_columns(self._paths, stored, self._sizes[:held], self._sums)
            if self._flat:
                self._flat.write(columns.pop("embedding").flatten().to_numpy().data)
            self._parquet.write_table(pa.table(columns, schema=self._parquet.schema))
        self.written += held
        self._paths.clear()
        self._sums.clear()

    def _stored(self, embeddings: npt.NDArray[np.float32]) -> Embeddings:
        exact = self._pca.project(embeddings) if self._pca else embeddings
        if self._dtype == exact.dtype:
            return exact
        return in_half(self._paths, exact).astype(self._dtype, copy=False)


@contextmanager
def open_output(
    path: Path,
    width: int,
    rows: int,
    provenance: Provenance,
    dtype: Dtype = "float32",
    pca: Pca | None = None,
    receipt: Mapping[str, Any] | None = None,
) -> Iterator[Writer]:
    """A writer of a table, which appears at `path` when all of it is safe on the disk; nothing of
    it after an error.

    Args:
        width: of the embeddings that write() is given.
        rows: that write() will be given in all.
        dtype: of the numbers in the table.
        pca: projects the embeddings on their way, and lies beside the table then; `provenance` need
            not name it.
        receipt: what else is to be known of the run; read_receipt() gives it back.

    Raises:
        PaucError: it cannot be written.
    """
    provenance = replace(provenance, pca=pca.sha256) if pca else provenance
    number, kept = np.dtype(dtype).newbyteorder("<"), pca.width if pca else width
    is_flat = path.suffix != PARQUET
    with telling(path), ExitStack() as stack:
        # the first one appears last
        files = [stack.enter_context(replacing(each)) for each in files_of(path)]
        if pca:
            files.append(stack.enter_context(replacing(pca_path(path))))
            files[-1].write(pca.content)
        if is_flat:
            files[0].write(flat_header(path.suffix, rows, kept, number, provenance.to_json()))
        schema = table_schema(provenance, None if is_flat else kept, number)
        schema = schema.with_metadata(
            schema.metadata | {RECEIPT_KEY: json.dumps(receipt or {}, ensure_ascii=False)}
        )
        with parquet_writer(files[int(is_flat)], schema) as parquet:
            writer = Writer(width, number, pca, parquet, files[0] if is_flat else None)
            yield writer
            writer.flush()
        if writer.written != rows:
            raise ValueError(f"{writer.written} rows were written to '{path}', and not {rows}")
        for file in files:  # all of them before the first appears
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, eq=False)
class Stored:
    """A table that was looked at, and of which no row was read."""

    files: list[Path]  # of Parquet
    rows: int
    flat: Flat | None  # where the embeddings are elsewhere
    width: int
    dtype: np.dtype[Any]
    provenance: Provenance

    def belongs_to(self, other: Self) -> bool:
        return (self.width, self.dtype, self.provenance) == (
            other.width,
            other.dtype,
            other.provenance,
        )

    def batches(self, rows: int = ROWS_TOGETHER) -> Iterator[Table]:
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
            return METADATA_KEY.encode() in (parquet.schema_arrow.metadata or {})
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
                "model or otherwise "
                f"than {names[0].name}."
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


def read_batches(path: Path, rows: int = ROWS_TOGETHER) -> Iterator[Table]:
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
            for batch in parquet.iter_batches(ROWS_TOGETHER, columns=["path"]):
                yield from batch["path"].to_pylist()


def read_receipt(path: Path) -> dict[str, Any] | None:
    """What the run that made the file at `path` noted of itself; None where it is no table of a
    run.
    """
    try:
        with parquet_file(files_of(path)[-1], buffer_size=BUFFER, pre_buffer=False) as file:
            receipt: dict[str, Any] = json.loads(
                (file.schema_arrow.metadata or {}).get(RECEIPT_KEY, b"{}")
            )
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
        schema, rows = file.schema_arrow, file.metadata.num_rows
    provenance = Provenance.from_json(
        (schema.metadata or {}).get(METADATA_KEY.encode(), b""), names
    )
    if not {"path", "width", "height"} <= {*schema.names}:
        raise TableError(f"'{names}' lacks a column path, width or height.")
    if flat is None:
        width, dtype = _kind_of(schema, path)
        return Stored([path], rows, None, width, dtype, provenance)
    if flat.shape[0] != rows or (
        flat.about and Provenance.from_json(flat.about, path) != provenance
    ):
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
