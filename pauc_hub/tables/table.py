"""The embedding table: its rows, its columns, and what is said in it about where they come from. N
rows, D width.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pauc_hub.errors import TableError, UsageError
from pauc_hub.files.atomic import replacing
from pauc_hub.files.failures import writing
from pauc_hub.images.reading import Reading
from pauc_hub.origin import Origin
from pauc_hub.tables.vectors import NPY, SAFETENSORS, TABLE_KEY, Embeddings

TABLE_FORMAT = 1
PARQUET = ".parquet"
TABLE_SUFFIXES = (PARQUET, NPY, SAFETENSORS)  # of the file that holds the embeddings
ERRORS_SUFFIX = ".errors.parquet"
SUM_COLUMN = "sha256"
"""The column with the sum of an image's bytes, in hexadecimal digits."""
ERRORS_TOGETHER = 1 << 16  # rows of the errors table held back until they are written together

Sizes = npt.NDArray[np.int32]  # (N, 2) width, height as seen


class Unreadable(NamedTuple):
    """A row of the errors table."""

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Provenance:
    """What made the embeddings. Tables of which model, space, PCA or width differ do not belong
    together.
    """

    model: str
    weights_sha256: str
    space: str
    preprocessing: dict[str, Any]
    precision: str
    root: str
    package_version: str
    pca: str | None = None
    """The sha256 of the PCA's file, where the embeddings were projected."""

    @property
    def origin(self) -> Origin:
        """What decides whether other embeddings may be compared with these."""
        return Origin(
            weights_sha256=self.weights_sha256,
            space=self.space,
            preprocessing=self.preprocessing,
            pca=self.pca,
            model=self.model,
            precision=self.precision,
            root=self.root,
            package_version=self.package_version,
        )

    @property
    def reading(self) -> Reading:
        """How its images were read: value range and bands."""
        return Reading.from_config(self.preprocessing)

    def to_json(self) -> str:
        about = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps({"format_version": TABLE_FORMAT} | about, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes, path: Path) -> "Provenance":
        """Read what stands in the table at `path`.

        Raises:
            TableError: it says nothing, or was written by a newer pauc-hub.
        """
        try:
            about = json.loads(text)
            version = about.pop("format_version")
            if version != TABLE_FORMAT:
                raise TableError(
                    f"'{path}' is of format {version}, but this pauc-hub reads "
                    f"{TABLE_FORMAT}. Upgrade it."
                )
            return cls(**about)
        except (AttributeError, KeyError, ValueError, TypeError) as error:
            raise TableError(f"'{path}' is no embedding table of pauc-hub.") from error


@dataclass(frozen=True, eq=False)
class Table:
    """A table, or a stretch of one, in memory; row i of each field belongs to one image."""

    paths: list[str]
    embeddings: Embeddings  # may be mapped from the file, read-only
    sizes: Sizes
    provenance: Provenance


def table_schema(provenance: Provenance, width: int | None, dtype: npt.DTypeLike) -> pa.Schema:
    """The columns of a table; without that of the embeddings where these, of no `width`, are kept
    elsewhere.
    """
    vectors = [] if width is None else [("embedding", pa.list_(pa.from_numpy_dtype(dtype), width))]
    columns = [("path", pa.string()), *vectors, ("width", pa.int32()), ("height", pa.int32())]
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns]
    # last, and empty where the bytes were not at hand: tables of earlier versions have no such
    # column
    fields.append(pa.field(SUM_COLUMN, pa.string()))
    return pa.schema(fields, metadata={TABLE_KEY: provenance.to_json()})


def embedding_columns(
    paths: Sequence[str], embeddings: Embeddings, sizes: Sizes, sums: Sequence[str | None]
) -> dict[str, pa.Array]:
    """N rows as columns: names, (N, D) embeddings, (N, 2) widths and heights, sha256 of the
    files.
    """
    return {
        "path": pa.array(paths, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(embeddings.ravel()), embeddings.shape[1]
        ),
        "width": pa.array(sizes[:, 0]),
        "height": pa.array(sizes[:, 1]),
        SUM_COLUMN: pa.array(sums, pa.string()),
    }


@contextmanager
def parquet_writer(file: BinaryIO, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of row groups, which ends the file where no error did."""
    parquet = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False)
    try:
        yield parquet
        parquet.close()
    finally:
        # else its destructor tries, once the file is closed, and complains on stderr
        with suppress(Exception):
            parquet.close()


def write_errors(path: Path, rows: Iterable[Unreadable]) -> int:
    """Write the errors table, whole or not at all; returns how many rows there were."""
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in Unreadable._fields])
    rows, count = iter(rows), 0
    with whole_file(path) as file, parquet_writer(file, schema) as parquet:
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
    with telling(path), replacing(path) as file:
        yield file


def telling(path: Path) -> AbstractContextManager[None]:
    """Say in one line that what goes to `path` cannot be written; whoever writes leaves nothing of
    it.
    """
    return writing(path, ", and nothing of it is left. Make room, or name another place.")


@contextmanager
def parquet_file(path: Path, **how: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read.

    Args:
        how: more words for pyarrow's ParquetFile.

    Raises:
        TableError: it cannot be read, also what is read of it while this is open.
    """
    try:
        with pq.ParquetFile(path, **how) as file:
            yield file
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).partition("\n")[0]
        raise TableError(f"'{path}' cannot be read ({reason}).") from error
    except (pa.ArrowException, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TableError(f"'{path}' cannot be read as Parquet ({reason}).") from error


def table_of(place: str, output: Path | None = None) -> Path:
    """Where the table of a source goes: to `output`, else beside it, `some/photos` to
    `some/photos.parquet`.

    Raises:
        UsageError: that would be no name, or that of the source itself.
    """
    table = output or _beside(place)
    if table.resolve() == Path(place).resolve():
        raise UsageError(f"the table of '{place}' would take its place: name another with -o.")
    return table


def _beside(place: str) -> Path:
    root = Path(place)
    named = root if root.name not in ("", "..") else root.resolve()
    if not named.name or not root.exists():  # a URL, or a pattern
        raise UsageError(f"the table of '{place}' needs a name: give one with -o.")
    name = (
        named.name.partition(".tar")[0] if named.name.endswith((".tar", ".tar.gz")) else named.stem
    )
    return named.with_name((name if named.is_file() else named.name) + PARQUET)


def companion(table: Path, suffix: str) -> Path:
    """What belongs to a table is named after it: `photos.npy` and `.errors.parquet` to
    `photos.errors.parquet`.
    """
    return table.with_name((table.stem if table.suffix in TABLE_SUFFIXES else table.name) + suffix)


def errors_path(table: Path) -> Path:
    """Where the images that could not be read are listed; for a part of a table, in a folder of
    their own.
    """
    folder = table.parent
    if table.name.startswith("part-") and folder.suffix == PARQUET:
        return companion(folder, ERRORS_SUFFIX) / table.name
    return companion(table, ERRORS_SUFFIX)
