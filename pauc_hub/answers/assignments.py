"""The assignment table: for each image its prototypes, how clearly and how confidently. N rows, K
prototypes, D width.

Parquet or CSV, by the end of the name. For each granularity K there are columns prototype_K,
name_K, similarity_K, margin_K and confidence_K; then outlier_score and outlier.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import torch
from torch import Tensor

from pauc_hub.answers.inputs import Given, rows_of
from pauc_hub.clustering.assignment import Assigned, assign_points, outlier_scores
from pauc_hub.clustering.prototype_set import PrototypeSet
from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.progress import progress_bar
from pauc_hub.tables.table import PARQUET, parquet_writer, whole_file

CSV = ".csv"
ASSIGNMENTS_SUFFIX = ".assignments.parquet"
ASSIGNMENTS_KEY = "pauc.assignments"
ASSIGNMENTS_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Tally:
    """Where all rows of a table fell at one granularity."""

    prototype: npt.NDArray[np.int32]
    """(N,)"""
    similarity: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]

    def sizes(self, k: int) -> npt.NDArray[np.int64]:
        """(K,) rows of each prototype."""
        return np.bincount(self.prototype, minlength=k)


@dataclass(frozen=True, eq=False)
class Tallies:
    """Where all rows of a table fell."""

    levels: tuple[Tally, ...]
    """The coarsest first."""
    outliers: int | None
    """None where the prototypes are uncalibrated."""


def unit_points(vectors: npt.NDArray[np.float32]) -> Tensor:
    """(n, D) at unit length; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return torch.from_numpy(vectors / np.maximum(lengths, 1e-30).astype(np.float32)[:, None])


def check_place(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Find out before any work whether a file can be written.

    Raises:
        UsageError: its name ends otherwise, or there is no such folder.
        OutputExists: something stands there that may not be overwritten.
    """
    if not path.name.endswith(suffixes):
        raise UsageError(f"the output '{path}' must end in {' or '.join(suffixes)}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"'{path}' cannot be written: there is no such folder. Name another place."
        )
    if path.is_dir():
        raise OutputExists(f"'{path}' is a folder. Name another place.")
    if path.exists() and not overwrite:
        raise OutputExists(f"'{path}' exists. Name another place, or give overwrite=True.")


def write_assignments(
    given: Given, prototypes: PrototypeSet, output: Path, alpha: float, quiet: bool = False
) -> Tallies:
    """Assign all rows of a table, and write what comes of it, whole or not at all.

    Raises:
        PaucError: it cannot be written, or an embedding is not finite.
    """
    parts: list[list[Tally]] = []
    outliers = 0
    schema = _schema(prototypes, alpha)
    threshold = prototypes.calibration.threshold(alpha) if prototypes.calibration else None
    with (
        _writer(output, schema) as write,
        progress_bar(given.rows, "assigning", quiet=quiet) as bar,
    ):
        for rows in rows_of(given):
            assigned = assign_points(unit_points(rows.vectors), prototypes)
            scores = outlier_scores(assigned[-1]).numpy()
            flags = None if threshold is None else scores > threshold
            write(_batch(rows.paths, assigned, prototypes, scores, flags, schema))
            parts.append([_tally(each) for each in assigned])
            outliers += 0 if flags is None else int(flags.sum())
            bar.advance(len(rows.paths))
    levels = tuple(_joined([part[m] for part in parts]) for m in range(len(prototypes.levels)))
    return Tallies(levels, None if threshold is None else outliers)


def column_keys(prototypes: PrototypeSet) -> list[str]:
    """What the columns of each granularity end in: its K, and a letter where two have the same."""
    seen: dict[int, int] = {}
    keys = []
    for k in prototypes.granularities:
        seen[k] = seen.get(k, 0) + 1
        keys.append(str(k) if seen[k] == 1 else f"{k}{chr(ord('a') + seen[k] - 1)}")
    return keys


def _schema(prototypes: PrototypeSet, alpha: float) -> pa.Schema:
    fields = [pa.field("path", pa.string(), nullable=False)]
    for key in column_keys(prototypes):
        fields += [
            pa.field(f"prototype_{key}", pa.int32(), nullable=False),
            pa.field(f"name_{key}", pa.string()),
            pa.field(f"similarity_{key}", pa.float32(), nullable=False),
            pa.field(f"margin_{key}", pa.float32()),
            pa.field(f"confidence_{key}", pa.float32()),
        ]
    fields += [
        pa.field("outlier_score", pa.float32(), nullable=False),
        pa.field("outlier", pa.bool_()),
    ]
    about = {
        "format_version": ASSIGNMENTS_FORMAT,
        "origin": prototypes.origin.to_dict(),
        "granularities": prototypes.granularities,
        "nested": prototypes.nested,
        "calibrated": prototypes.calibration is not None,
        "alpha": alpha,
    }
    return pa.schema(fields, metadata={ASSIGNMENTS_KEY: json.dumps(about, ensure_ascii=False)})


def _batch(
    paths: list[str],
    assigned: tuple[Assigned, ...],
    prototypes: PrototypeSet,
    scores: npt.NDArray[np.float32],
    flags: npt.NDArray[np.bool_] | None,
    schema: pa.Schema,
) -> pa.RecordBatch:
    columns: list[Any] = [pa.array(paths, pa.string())]
    for level, names in zip(assigned, prototypes.names, strict=True):
        margin = level.margin.numpy()
        confidence = None if level.confidence is None else level.confidence.numpy()
        columns += [
            pa.array(level.prototype.numpy().astype(np.int32)),
            pa.array(names, pa.string()).take(pa.array(level.prototype.numpy())),
            pa.array(level.similarity.numpy()),
            pa.array(margin, pa.float32(), mask=np.isnan(margin)),
            pa.nulls(len(paths), pa.float32()) if confidence is None else pa.array(confidence),
        ]
    columns.append(pa.array(scores, pa.float32()))
    columns.append(pa.nulls(len(paths), pa.bool_()) if flags is None else pa.array(flags))
    return pa.record_batch(columns, schema=schema)


@contextmanager
def _writer(output: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    with whole_file(output) as file:
        if output.suffix == PARQUET:
            with parquet_writer(file, schema) as parquet:
                yield parquet.write_batch
        else:
            with pa.csv.CSVWriter(file, schema) as text:
                yield text.write_batch


def _tally(assigned: Assigned) -> Tally:
    return Tally(
        assigned.prototype.numpy().astype(np.int32),
        assigned.similarity.numpy(),
        assigned.margin.numpy(),
    )


def _joined(parts: list[Tally]) -> Tally:
    return Tally(
        np.concatenate([part.prototype for part in parts]),
        np.concatenate([part.similarity for part in parts]),
        np.concatenate([part.margin for part in parts]),
    )
