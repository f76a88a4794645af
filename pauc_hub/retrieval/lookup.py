"""Single rows of an embedding table on disk, found and read without the rest of it. N rows, D
width.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pauc_hub.tables.stored import Stored
from pauc_hub.tables.table import parquet_file

NAMES_TOGETHER = 1 << 16  # looked through at a time


class _Group(NamedTuple):
    """A row group of Parquet, which is read as a whole."""

    file: Path
    number: int
    start: int  # which row of the table its first one is


def find_rows(table: Stored, names: Iterable[str]) -> dict[str, int]:
    """In which row each name stands, the first one; names that the table does not have are left
    out.
    """
    wanted, start = pa.array(set(names), pa.string()), 0
    found: dict[str, int] = {}
    for path in table.files if len(wanted) else ():
        with parquet_file(path) as file:
            for batch in file.iter_batches(NAMES_TOGETHER, columns=["path"]):
                for i in np.flatnonzero(pc.is_in(batch["path"], wanted)):
                    found.setdefault(batch["path"][int(i)].as_py(), start + int(i))
                start += batch.num_rows
    return found


def read_paths(table: Stored, rows: Sequence[int]) -> list[str]:
    """The names of some rows, in the order of `rows`."""
    return _read(table, "path", rows, lambda column, i: column[i].as_py())


def read_vectors(table: Stored, rows: Sequence[int]) -> npt.NDArray[np.float32]:
    """(len(rows), D) embeddings of some rows, in the order of `rows`."""
    if table.flat:
        return table.flat.map(0, table.rows)[np.asarray(rows, np.int64)].astype(np.float32)
    vectors = _read(
        table, "embedding", rows, lambda column, i: np.asarray(column[i].values, np.float32)
    )
    return np.array(vectors, np.float32).reshape(len(rows), table.width)


def _read(
    table: Stored, column: str, rows: Sequence[int], take: Callable[[pa.Array, int], Any]
) -> list[Any]:
    groups = list(_groups(table))
    starts = [group.start for group in groups]
    where = [bisect_right(starts, row) - 1 for row in rows]
    taken: dict[int, Any] = {}
    for g in set(where):
        with parquet_file(groups[g].file) as file:
            values = file.read_row_group(groups[g].number, columns=[column])[
                column
            ].combine_chunks()
        taken |= {
            row: take(values, row - starts[g])
            for row, at in zip(rows, where, strict=True)
            if at == g
        }
    return [taken[row] for row in rows]


def _groups(table: Stored) -> Iterator[_Group]:
    start = 0
    for path in table.files:
        with parquet_file(path) as file:
            for number in range(file.metadata.num_row_groups):
                yield _Group(path, number, start)
                start += file.metadata.row_group(number).num_rows
