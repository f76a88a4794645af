"""Single rows of an embedding table on disk, found and read without the rest of it. N rows, D width."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pauc_hub.errors import TableError
from pauc_hub.outputs import INDEX_SUFFIX, files_of, open_table
from pauc_hub.table import ERRORS_SUFFIX, PARQUET
from pauc_hub.vectors import open_flat


class _Group(NamedTuple):
    """A row group of Parquet, which is read as a whole."""

    file: Path
    number: int
    start: int  # which row of the table its first one is


def table_files(table: Path) -> tuple[Path, ...]:
    """All files of a table, or of the parts of one, without what only lies beside it."""
    if not table.is_dir():
        return files_of(table)
    parts = table.glob(f"part-*{PARQUET}")
    return tuple(sorted(part for part in parts if not part.name.endswith((ERRORS_SUFFIX, INDEX_SUFFIX))))


def shape(table: Path) -> tuple[int, int]:
    """N and D, from the metadata alone."""
    stored = open_table(table)
    return stored.rows, stored.width


def find_rows(table: Path, names: Iterable[str]) -> dict[str, int]:
    """In which row each name stands, the first one; names that the table does not have are left out."""
    wanted, start = pa.array(set(names), pa.string()), 0
    found: dict[str, int] = {}
    for path in _name_files(table) if len(wanted) else ():
        with _parquet(path) as file:
            for batch in file.iter_batches(1 << 16, columns=["path"]):
                for i in np.flatnonzero(pc.is_in(batch["path"], wanted)):
                    found.setdefault(batch["path"][int(i)].as_py(), start + int(i))
                start += batch.num_rows
    return found


def read_paths(table: Path, rows: Sequence[int]) -> list[str]:
    """The names of some rows, in the order of `rows`."""
    return _read(table, "path", rows, lambda column, i: column[i].as_py())


def read_vectors(table: Path, rows: Sequence[int]) -> npt.NDArray[np.float32]:
    """(len(rows), D) embeddings of some rows, in the order of `rows`, of which there is one at least."""
    if _is_flat(table):
        flat = open_flat(table)
        mapped: npt.NDArray[np.float32] = flat.map(0, flat.shape[0])[np.asarray(rows)].astype(np.float32)
        return mapped
    return np.stack(_read(table, "embedding", rows, lambda column, i: np.asarray(column[i].values, np.float32)))


def _read(table: Path, column: str, rows: Sequence[int], take: Callable[[pa.Array, int], Any]) -> list[Any]:
    groups = list(_groups(table))
    starts = [group.start for group in groups]
    where = [bisect_right(starts, row) - 1 for row in rows]
    taken: dict[int, Any] = {}
    for g in set(where):
        with _parquet(groups[g].file) as file:
            values = file.read_row_group(groups[g].number, columns=[column])[column].combine_chunks()
        taken |= {row: take(values, row - starts[g]) for row, at in zip(rows, where, strict=True) if at == g}
    return [taken[row] for row in rows]


def _groups(table: Path) -> Iterator[_Group]:
    start = 0
    for path in _name_files(table):
        with _parquet(path) as file:
            for number in range(file.metadata.num_row_groups):
                yield _Group(path, number, start)
                start += file.metadata.row_group(number).num_rows


def _is_flat(table: Path) -> bool:
    """Whether its embeddings are not in Parquet."""
    return not table.is_dir() and table.suffix != PARQUET


def _name_files(table: Path) -> tuple[Path, ...]:
    files = table_files(table)
    return files if table.is_dir() else files[-1:]


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"'{path}' cannot be read as Parquet ({str(error).partition(chr(10))[0]}).") from error
