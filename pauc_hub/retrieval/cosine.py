"""The rows nearest to a query by cosine, exactly, block by block. Q queries, B rows at once of N, D
width.

In numpy, so that a search among vectors that are stored need not wait for torch to be imported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import TableError

BLOCK_NUMBERS = 1 << 23  # held at once, of a block's embeddings or of its scores: 32 MiB of float32
# scores in float32 are nearer to the truth than this: 2e-7 at most was seen at D = 2048
SLACK = 1e-5
TINY = 1e-30  # a vector of zeros has no direction: its cosine is 0

Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class RowBlock:
    """B rows that stand together in a table."""

    start: int
    """Which row of the table its first one is."""
    paths: Sequence[str]
    embeddings: Vectors  # (B, D)


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The K rows nearest to one query, the nearest first; of equally near ones that which stands
    first in the table.
    """

    rows: npt.NDArray[np.int64]  # (K,)
    scores: npt.NDArray[np.float32]  # (K,) cosine, in [-1, 1], descending
    paths: list[str]


def block_rows(width: int, queries: int) -> int:
    """The B with which neither embeddings nor scores of a block exceed BLOCK_NUMBERS."""
    return max(1, BLOCK_NUMBERS // max(width, queries))


def unit_rows(vectors: Vectors) -> npt.NDArray[np.float64]:
    """(N, D), each row divided by its length."""
    exact = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = exact / np.maximum(
        np.linalg.norm(exact, axis=1, keepdims=True), TINY
    )
    return unit


def nearest(
    blocks: Iterable[RowBlock],
    queries: Vectors,
    k: int,
    left_out: Sequence[int | None] | None = None,
) -> list[Neighbors]:
    """Compare each query with every row.

    Args:
        blocks: the table in parts of any size, on which the result does not depend.
        queries: (Q, D), of any length.
        k: rows for each query; fewer come from a table that has not as many.
        left_out: for each query the row that is no answer since it is the query's own, or None.

    Returns:
        One entry for each query.

    Raises:
        TableError: as row_lengths().
    """
    units = unit_rows(queries)
    rough_units = units.astype(np.float32)
    own: Sequence[int | None] = [None] * len(queries) if left_out is None else left_out
    found = [Neighbors(np.empty(0, np.int64), np.empty(0, np.float32), [])] * len(queries)
    for block in blocks:
        scores = _rough_scores(rough_units, block)
        for q, row in enumerate(own):
            if row is not None and 0 <= row - block.start < len(block.paths):
                scores[q, row - block.start] = -np.inf
            found[q] = _merged(found[q], block, _candidates(scores[q], found[q], k), units[q], k)
    return found


def row_lengths(block: RowBlock) -> npt.NDArray[np.float32]:
    """(B,) Euclidean, not below TINY.

    Raises:
        TableError: a row holds a number that is not finite, or too large to be squared.
    """
    embeddings = block.embeddings.astype(np.float32, copy=False)
    squares: npt.NDArray[np.float32] = np.einsum("bd,bd->b", embeddings, embeddings)
    if not np.isfinite(squares).all():
        row = int(np.argmin(np.isfinite(squares)))
        raise TableError(
            f"row {block.start + row} of the table, '{block.paths[row]}', holds numbers that "
            "are not finite. "
            "Its image must be embedded again."
        )
    return np.maximum(np.sqrt(squares), TINY)


def _rough_scores(units: npt.NDArray[np.float32], block: RowBlock) -> npt.NDArray[np.float32]:
    """(Q, B) cosines. Their last bits depend on where in a block a row stands, so they choose the
    candidates alone.
    """
    scores: npt.NDArray[np.float32] = units @ block.embeddings.astype(np.float32, copy=False).T
    scores /= row_lengths(block)
    return scores


def _candidates(
    scores: npt.NDArray[np.float32], before: Neighbors, k: int
) -> npt.NDArray[np.int64]:
    """The rows of a block that may be among the k best so far."""
    worst = before.scores[-1] if len(before.rows) == k else -np.inf
    rank = len(scores) - min(k, len(scores))
    bound = max(worst, np.partition(scores, rank)[rank]) - SLACK
    return np.flatnonzero((scores >= bound) & (scores > -np.inf))


def _merged(
    before: Neighbors,
    block: RowBlock,
    candidates: npt.NDArray[np.int64],
    unit: npt.NDArray[np.float64],
    k: int,
) -> Neighbors:
    """The k best of those before and the candidates, scored one by one in float64: equal rows score
    the same.
    """
    exact = (unit_rows(block.embeddings[candidates]) * unit).sum(axis=1).astype(np.float32)
    rows = np.concatenate([before.rows, block.start + candidates])
    scores = np.concatenate([before.scores, exact])
    paths = [*before.paths, *(block.paths[i] for i in candidates)]
    best = np.lexsort((rows, -scores))[:k]
    return Neighbors(rows[best], scores[best], [paths[i] for i in best])
