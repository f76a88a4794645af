"""Which images of an embedding table are nearest to a query, by cosine. Q queries, N rows, D width.

Every row is compared, until a table is so large that an index pays.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import TableError, UsageError
from pauc_hub.progress import Bar, progress_bar
from pauc_hub.retrieval import faiss_index
from pauc_hub.retrieval.cosine import Neighbors, RowBlock, block_rows, nearest
from pauc_hub.retrieval.lookup import read_paths
from pauc_hub.tables.stored import Stored, open_table

INDEX_ROWS = 1_000_000  # of Parquet, from where on an index pays; docs/search.md has the times
FLAT_INDEX_ROWS = 10 * INDEX_ROWS  # likewise where embeddings are mapped, and need not be decoded


@dataclass(frozen=True)
class Found:
    """What find_neighbors() gives."""

    neighbors: list[Neighbors]
    """One entry for each query."""
    method: Literal["exact", "index"]
    note: str | None
    """What the user might do about the speed, if anything."""


def find_neighbors(
    table: Path,
    queries: npt.NDArray[np.float32],
    k: int,
    *,
    left_out: Sequence[int | None] | None = None,
    exact: bool = False,
    quiet: bool = False,
) -> Found:
    """Find the k rows nearest to each query.

    A table of INDEX_ROWS or more gets an index, where faiss is installed, which is built once and
    kept beside it.

    Args:
        table: of any form that read_table() reads.
        queries: (Q, D), of any length.
        k: rows for each query; check_k() says how many there may be.
        left_out: for each query the row that is no answer since it is the query's own, or None.
        exact: compare every row, whatever the size of the table.
        quiet: no progress bar.

    Raises:
        TableError: the table is damaged, or of another width than the queries.
        PaucError: the index cannot be written.
    """
    stored = open_table(table)
    own: list[int | None] = [None] * len(queries) if left_out is None else list(left_out)
    check_k(k, stored.rows - any(row is not None for row in own), table)
    if (width := queries.shape[1]) != stored.width:
        raise TableError(
            f"'{table}' has embeddings of {stored.width} numbers, and the queries have {width}."
        )
    index, note = None, None
    if (
        stored.rows >= (FLAT_INDEX_ROWS if stored.flat else INDEX_ROWS)
        and k <= faiss_index.MOST_NEIGHBORS
        and not exact
    ):
        index, note = _index(table, stored, quiet)
    if index is not None and (found := _by_index(stored, index, queries, k, own)):
        return Found(found, "index", None)
    with progress_bar(stored.rows, "searching", quiet=quiet) as bar:
        return Found(
            nearest(_blocks(stored, block_rows(width, len(queries)), bar), queries, k, own),
            "exact",
            note,
        )


def check_k(k: int, rows: int, table: Path) -> None:
    """Raise UsageError where fewer than k rows can be found among `rows`."""
    if rows < 1:
        raise UsageError(f"'{table}' holds no images to search among.")
    if not 1 <= k <= rows:
        raise UsageError(
            f"k={k} is not between 1 and {rows}, the images to search among in '{table}'."
        )


def _index(table: Path, stored: Stored, quiet: bool) -> tuple[Any, str | None]:
    """The index, which is built where there is none; or None, and why, for people."""
    if not faiss_index.is_installed():
        return None, (
            "an index would make searching so large a table faster: `pip install "
            "'pauc-hub[faiss-cpu]'`"
        )
    if (index := faiss_index.open_index(table)) is not None:
        return index, None
    path = faiss_index.index_path(table)
    if not os.access(path.absolute().parent, os.W_OK):
        return None, (
            f"an index would make searching faster, but '{path}' cannot be written: its folder "
            "is read-only"
        )
    with progress_bar(2 * stored.rows, "building the index", "rows", quiet=quiet) as bar:
        blocks = partial(_blocks, stored, block_rows(stored.width, 1), bar)
        faiss_index.build_index(table, blocks, stored.rows, stored.width)
    return faiss_index.open_index(table), None


def _by_index(
    table: Stored, index: Any, queries: npt.NDArray[np.float32], k: int, own: list[int | None]
) -> list[Neighbors] | None:
    """None where the lists that the index looks at hold fewer than k rows."""
    all_rows, all_scores = faiss_index.search_index(
        index, queries, k + any(row is not None for row in own)
    )
    found = []
    for rows, scores, row in zip(all_rows, all_scores, own, strict=True):
        kept = np.lexsort((rows, -scores))
        kept = kept[(rows[kept] >= 0) & (rows[kept] != (-1 if row is None else row))][:k]
        if len(kept) < k:
            return None
        found.append((rows[kept], scores[kept]))
    paths = iter(read_paths(table, [row for rows, _ in found for row in rows.tolist()]))
    return [Neighbors(rows, scores, list(islice(paths, k))) for rows, scores in found]


def _blocks(table: Stored, rows: int, bar: Bar) -> Iterator[RowBlock]:
    start = 0
    for batch in table.batches(rows):
        yield RowBlock(start, batch.paths, batch.embeddings)
        start += len(batch.paths)
        bar.advance(len(batch.paths))
