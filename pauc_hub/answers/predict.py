"""The function behind `pauc predict`: classes of new images by a probe. N images, C classes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pauc_hub.answers.assignments import CSV, check_place
from pauc_hub.answers.inputs import open_input, rows_of
from pauc_hub.answers.probe_file import ProbeFile, read_probe
from pauc_hub.errors import TableError
from pauc_hub.origin import require_same_origin
from pauc_hub.progress import progress_bar
from pauc_hub.tables.stored import is_table
from pauc_hub.tables.table import PARQUET, parquet_writer, whole_file

LIKELY = 0.5
"""Where an image may have several labels, those of at least this probability are given."""
SEPARATOR = "; "


@dataclass(frozen=True, eq=False)
class Predictions:
    """What pauc_hub.predict() returns."""

    rows: pa.Table
    """path, class, probability, second_class, second_probability; and classes, where there may be
    several.

    Empty where they were written to a file.
    """
    images: int
    unreadable: int
    """Images that could not be read."""
    counts: dict[str, int]
    """Images by their likeliest class."""
    calibration_error: float | None
    """Expected, of the probabilities, as it was measured when the probe was made."""
    output: Path | None
    seconds: float


def predict(
    images: str | Path,
    probe: str | Path,
    *,
    output: str | Path | None = None,
    model: str | Path | None = None,
    table: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Predictions:
    """Tell the class of each image.

        >>> found = predict("labelled.parquet", "colours.probe.safetensors", quiet=True)
        >>> found.counts
        {'blue': 20, 'red': 20}

    Args:
        images: a table, or images, which are embedded first by the probe's own model.
        probe: the file that probe() wrote.
        output: a file to write instead, .parquet or .csv.
        model: the folder of the probe's model, where its name does not lead there.
        table: where the table of images is kept; beside them unless given.
        device: to embed images on.
        overwrite: replace an output that is there.
        quiet: neither progress bars nor a word on stderr.

    Raises:
        ArtefactError: the probe is missing or damaged.
        OriginMismatch: the table is of another model, space or preprocessing than the probe.
        PaucError: as embed() does.
    """
    started = time.monotonic()
    if output:
        check_place(Path(output), (PARQUET, CSV), overwrite)
    known = read_probe(Path(probe))
    like = None if is_table(Path(images)) else known.origin
    given = open_input(images, model=model, like=like, table=table, device=device, quiet=quiet)
    require_same_origin(given.origin, given.path, known.origin, probe)
    if given.width != known.width:
        raise TableError(
            f"'{given.path}' has {given.width} numbers an image, and probe '{probe}' takes "
            f"{known.width}."
        )
    counts = np.zeros(len(known.classes), np.int64)
    with (
        _sink(Path(output) if output else None, _schema(known, output)) as (write, kept),
        progress_bar(given.rows, "predicting", quiet=quiet) as bar,
    ):
        for rows in rows_of(given):
            every = np.arange(len(rows.paths))
            probabilities = known.model.probabilities(
                known.model.logits(rows.vectors, every)
            ).numpy()
            counts += np.bincount(probabilities.argmax(axis=1), minlength=len(counts))
            write(_batch(rows.paths, probabilities, known, _schema(known, output)))
            bar.advance(len(rows.paths))
    calibration = known.report.get("calibration") or {}
    return Predictions(
        rows=pa.Table.from_batches(kept, _schema(known, output)),
        images=given.rows,
        unreadable=given.unreadable,
        counts={name: int(count) for name, count in zip(known.classes, counts, strict=True)},
        calibration_error=calibration.get("expected_error"),
        output=Path(output) if output else None,
        seconds=time.monotonic() - started,
    )


def _schema(probe: ProbeFile, output: str | Path | None) -> pa.Schema:
    fields = [("path", pa.string()), ("class", pa.string()), ("probability", pa.float32())]
    fields += [("second_class", pa.string()), ("second_probability", pa.float32())]
    if probe.model.several:
        # CSV has no lists.
        joined = output is not None and Path(output).suffix == CSV
        fields.append(("classes", pa.string() if joined else pa.list_(pa.string())))
    return pa.schema(fields)


def _batch(
    paths: list[str], probabilities: Any, probe: ProbeFile, schema: pa.Schema
) -> pa.RecordBatch:
    names = np.array(probe.classes, dtype=object)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    ranked = np.take_along_axis(probabilities, order, axis=1)
    columns: list[Any] = [paths, names[order[:, 0]], ranked[:, 0]]
    if len(names) > 1:
        columns += [names[order[:, 1]], ranked[:, 1]]
    else:
        columns += [[None] * len(paths)] * 2
    if probe.model.several:
        likely = [names[row >= LIKELY].tolist() for row in probabilities]
        joined = schema.field("classes").type == pa.string()
        columns.append([SEPARATOR.join(each) for each in likely] if joined else likely)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


@contextmanager
def _sink(
    output: Path | None, schema: pa.Schema
) -> Iterator[tuple[Callable[[pa.RecordBatch], None], list[pa.RecordBatch]]]:
    """What takes the batches: a file, which appears whole, or the list beside it."""
    kept: list[pa.RecordBatch] = []
    if output is None:
        yield kept.append, kept
        return
    with whole_file(output) as file:
        if output.suffix == PARQUET:
            with parquet_writer(file, schema) as parquet:
                yield parquet.write_batch, kept
        else:
            with pa.csv.CSVWriter(file, schema) as text:
                yield text.write_batch, kept
