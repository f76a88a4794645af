"""The embedding table: Parquet that any tool reads, with its provenance inside (architecture.md). N rows, D width."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pauc_hub.durable import hidden_sibling, replacing
from pauc_hub.errors import OutputExists, PaucError, TableError, UsageError

FORMAT_VERSION = 1
METADATA_KEY = b"pauc"
SUFFIX, ERRORS_SUFFIX = ".parquet", ".errors.parquet"
ROW_GROUP_BYTES = 1 << 24  # of embeddings held back until they are written together
ERRORS_TOGETHER = 1 << 16  # rows of the errors table, likewise


class Unreadable(NamedTuple):
    """A row of the errors table."""

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Provenance:
    """What made the embeddings. Tables of which model, space or width differ do not belong together."""

    model: str
    weights_sha256: str
    space: str
    preprocessing: dict[str, Any]
    precision: str
    root: str
    package_version: str


@dataclass(frozen=True, eq=False)
class Table:
    """A table in memory; row i of each field belongs to one image."""

    paths: list[str]
    embeddings: npt.NDArray[np.float32]  # (N, D)
    sizes: npt.NDArray[np.int32]  # (N, 2) width, height as seen
    provenance: Provenance


class TableWriter:
    """Context that collects rows and leaves a whole table at `path`; nothing is there where an error ended it."""

    def __init__(self, path: Path, width: int, provenance: Provenance) -> None:
        self._path = path
        self._schema = _schema(width, provenance)
        self._rows_together = max(1, ROW_GROUP_BYTES // (4 * width))
        self._held_back: list[pa.RecordBatch] = []
        self._rows_held_back = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        file = self._stack.enter_context(whole_file(self._path))
        self._parquet = pq.ParquetWriter(file, self._schema, compression="zstd", use_dictionary=False)
        self._stack.push(self._close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, paths: Sequence[str], embeddings: npt.NDArray[np.float32], sizes: npt.NDArray[np.int32]) -> None:
        """Add N rows: names, (N, D) embeddings, (N, 2) widths and heights."""
        columns = embedding_columns(paths, embeddings, sizes)
        self._held_back.append(pa.record_batch(list(columns.values()), schema=self._schema))
        self._rows_held_back += len(paths)
        if self._rows_held_back >= self._rows_together:
            self._flush(whole_groups_only=True)

    def _flush(self, *, whole_groups_only: bool) -> None:
        """Groups have the same number of rows however these came, so that the same rows give the same file."""
        rows = pa.Table.from_batches(self._held_back, self._schema).combine_chunks()
        kept = rows.num_rows % self._rows_together if whole_groups_only else 0
        written = rows.num_rows - kept
        for start in range(0, written, self._rows_together):
            self._parquet.write_table(rows.slice(start, min(self._rows_together, written - start)))
        self._held_back, self._rows_held_back = rows.slice(written).to_batches(), kept

    def _close(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if not failed:
                self._flush(whole_groups_only=False)
                self._parquet.close()
        finally:
            with suppress(Exception):  # else its destructor tries, once the file is closed, and complains on stderr
                self._parquet.close()


def _schema(width: int, provenance: Provenance) -> pa.Schema:
    about = {"format_version": FORMAT_VERSION, **asdict(provenance)}
    fields = [
        pa.field("path", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), width), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, ensure_ascii=False).encode()})


def embedding_columns(
    paths: Sequence[str], embeddings: npt.NDArray[np.float32], sizes: npt.NDArray[np.int32]
) -> dict[str, pa.Array]:
    """N rows as columns: names, (N, D) embeddings, (N, 2) widths and heights."""
    return {
        "path": pa.array(paths, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1]),
        "width": pa.array(sizes[:, 0]),
        "height": pa.array(sizes[:, 1]),
    }


def write_errors(path: Path, rows: Iterable[Unreadable]) -> int:
    """Write the errors table, whole or not at all; returns how many rows there were."""
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in Unreadable._fields])
    rows, count = iter(rows), 0
    with whole_file(path) as file, pq.ParquetWriter(file, schema) as parquet:
        while group := list(islice(rows, ERRORS_TOGETHER)):
            parquet.write_table(pa.Table.from_pylist([row._asdict() for row in group], schema))
            count += len(group)
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which appears at `path` when all of it is safe on the disk.

    Raises:
        PaucError: it cannot be written; nothing of it is left.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise PaucError(
            f"'{path}' could not be written ({reason}), and nothing of it is left. Make room, or name another place."
        ) from error


def beside(root: Path) -> Path:
    """Where the table of a folder of images goes by default: `some/photos` to `some/photos.parquet`."""
    named = root if root.name not in ("", "..") else root.resolve()
    if not named.name:
        raise UsageError(f"the table of '{root}' needs a name: give one with -o.")
    return named.with_name((named.stem if named.is_file() else named.name) + SUFFIX)


def errors_path(table: Path) -> Path:
    """Where the images that could not be read are listed."""
    return table.with_name(table.name.removesuffix(SUFFIX) + ERRORS_SUFFIX)


def check_output(table: Path, overwrite: bool) -> None:
    """Find out before any work whether the table can be written.

    Raises:
        UsageError: not a name of a Parquet file, or in a folder where nothing can be written.
        OutputExists: the table or its errors table is there, and may not be overwritten.
    """
    if table.suffix != SUFFIX:
        raise UsageError(f"the output '{table}' must end in {SUFFIX}.")
    try:
        with TemporaryFile(dir=table.parent):  # without a name, so that no kill can leave it behind
            pass
        with suppress(FileNotFoundError):
            hidden_sibling(errors_path(table)).lstat()  # the longest name that will be needed
    except OSError as error:
        raise UsageError(f"'{table}' cannot be written ({error.strerror}). Name another place.") from error
    for path in (table, errors_path(table)):
        if path.is_dir():
            raise OutputExists(f"'{path}' is a folder. Name another place.")
        if path.exists() and not overwrite:
            raise OutputExists(f"'{path}' exists. Name another place, or give --overwrite.")


def read_table(path: Path) -> Table:
    """Read an embedding table, one file or a folder of `part-*.parquet` in the order of their names.

    Raises:
        TableError: not a table of this package or this format, or parts that do not belong together.
    """
    parts = sorted(path.glob(f"part-*{SUFFIX}")) if path.is_dir() else [path]
    try:
        tables = [pq.read_table(part) for part in parts]
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"'{path}' cannot be read as Parquet ({_first_line(error)}).") from error
    if len({table.schema for table in tables}) > 1:
        raise TableError(f"the parts in '{path}' come from different models or settings.")
    if not tables:
        raise TableError(f"'{path}' holds no part-*{SUFFIX}.")
    provenance = _provenance(path, tables[0].schema)
    rows = pa.concat_tables(tables).combine_chunks()
    vectors = rows["embedding"].combine_chunks()
    numbers = vectors.flatten().to_numpy(zero_copy_only=False)
    return Table(
        paths=rows["path"].to_pylist(),
        embeddings=numbers.reshape(-1, vectors.type.list_size).astype(np.float32, copy=False),
        sizes=np.stack([rows["width"].to_numpy(), rows["height"].to_numpy()], axis=1),
        provenance=provenance,
    )


def _provenance(path: Path, schema: pa.Schema) -> Provenance:
    try:
        about = json.loads((schema.metadata or {})[METADATA_KEY])
        if (version := about.pop("format_version")) != FORMAT_VERSION:
            raise TableError(f"'{path}' is of format {version}, but this pauc-hub reads {FORMAT_VERSION}. Upgrade it.")
        return Provenance(**about)
    except (KeyError, ValueError, TypeError) as error:
        raise TableError(f"'{path}' is Parquet, but no embedding table of pauc-hub.") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
