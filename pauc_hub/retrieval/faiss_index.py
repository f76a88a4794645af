"""A faiss index of an embedding table, built once and kept beside it: a few lists of rows are
compared, not all rows.

N rows of width D in L lists. Rows are rounded to 16 bits in the index, which changes a cosine by
5e-4 at most (2^-11).
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable
from math import log2, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.retrieval.cosine import RowBlock, row_lengths, unit_rows
from pauc_hub.tables.stored import open_table
from pauc_hub.tables.table import companion, whole_file

FAISS_SUFFIX = ".faiss"
INDEX_FORMAT = 1
# lists that a query is compared with; benchmarks/search.py measures what is found in them
PROBES = 64
MOST_NEIGHBORS = 100  # neighbours that PROBES lists were seen to hold
SAMPLE = 64  # rows for each list that the lists are learned from
# of the note at the end of the file; faiss reads its own part, and ignores what follows
NOTE_BYTES = 512

_RowBlocks = Callable[[], Iterable[RowBlock]]


def is_installed() -> bool:
    return importlib.util.find_spec("faiss") is not None


def index_path(table: Path) -> Path:
    """`photos.parquet` has its index in `photos.faiss`."""
    return companion(table, FAISS_SUFFIX)


def open_index(table: Path) -> Any | None:
    """The index of the table as it is now, mapped and not read; None where there is none, or that
    of another state.
    """
    import faiss  # an extra; imported where used

    path = index_path(table)
    if _note_of(path) != _note(table):
        return None
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError:  # written by another faiss
        return None


def build_index(table: Path, blocks: _RowBlocks, rows: int, width: int) -> None:
    """Read the table twice, to learn the lists from some rows and to fill them with all; takes 2 N
    D bytes of memory.

    Raises:
        PaucError: it cannot be written; nothing of it is left.
        TableError: a row is not finite.
    """
    import faiss

    library: Any = faiss  # its stubs know half of it
    note, lists = _note(table), list_count(rows)
    index = library.index_factory(width, f"IVF{lists},SQfp16", library.METRIC_INNER_PRODUCT)
    index.cp.spherical = True
    index.cp.max_points_per_centroid = SAMPLE
    index.cp.min_points_per_centroid = 1
    step = -(-rows // (SAMPLE * lists))
    index.train(np.concatenate([_units(block)[-block.start % step :: step] for block in blocks()]))
    for block in blocks():
        index.add(_units(block))
    index.nprobe = min(PROBES, lists)
    with whole_file(index_path(table)) as file:
        library.write_index(index, library.PyCallbackIOWriter(file.write))
        file.write(note)


def search_index(
    index: Any, queries: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(Q, k) rows and their cosines, descending; rows of -1 where the lists that were looked at
    hold fewer.
    """
    scores, rows = index.search(unit_rows(queries).astype(np.float32), k)
    return rows, np.clip(scores, -1, 1)


def list_count(rows: int) -> int:
    """L, the power of two next to twice the square root of N: as many comparisons with lists as
    within some.
    """
    return 1 << max(0, round(log2(2 * sqrt(max(1, rows)))))


def _units(block: RowBlock) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = block.embeddings / row_lengths(block)[:, None]
    return units.astype(np.float32, copy=False)


def _note(table: Path) -> bytes:
    """What an index was built from, of NOTE_BYTES: any writing to the table's files changes it."""
    stored = open_table(table)
    files = [*stored.files, *([stored.flat.path] if stored.flat else [])]
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    about = {"pauc": {"format_version": INDEX_FORMAT, "table": table.name, "files_sha256": state}}
    return b"\n" + json.dumps(about).encode().rjust(NOTE_BYTES - 2) + b"\n"


def _note_of(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(-NOTE_BYTES, os.SEEK_END)
            return file.read()
    except OSError:
        return None
