"""The function behind `pauc dedupe`: duplicates within a table, or between two. N rows."""

import csv
import hashlib
import io
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from pauc_hub.answers.assignments import CSV, check_place
from pauc_hub.answers.duplicate_threshold import Threshold, calibrate_threshold
from pauc_hub.answers.inputs import Given, open_input, rows_of
from pauc_hub.device import choose_device
from pauc_hub.errors import UsageError
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.origin import require_same_origin
from pauc_hub.progress import progress_bar
from pauc_hub.retrieval.duplicates import Copies, find_copies
from pauc_hub.retrieval.leakage import copied_rows
from pauc_hub.retrieval.queries import image_file
from pauc_hub.tables.sums import read_image_sums
from pauc_hub.tables.table import PARQUET, companion, parquet_writer, whole_file

DUPLICATES_SUFFIX = ".duplicates.parquet"
BYTES, PIXELS, NEAR = "same bytes", "same pixels", "near"


@dataclass(frozen=True)
class Duplicate:
    """An image that is a copy of another."""

    group: int
    """From 0, the largest group first; in a comparison of two tables, from 0 in the order of the
    first.
    """
    path: str
    kept: str
    """The image that it is a copy of."""
    kind: str
    """`same bytes`, `same pixels` or `near`; near where neither sums nor files tell more."""
    similarity: float
    reason: str
    """Why the other one is kept."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What dedupe() gives."""

    output: Path
    table: Path
    images: int
    groups: int
    duplicates: list[Duplicate]
    threshold: Threshold
    other: Path | None = None
    moved: int = 0

    @property
    def kinds(self) -> dict[str, int]:
        """How many of each kind."""
        counts = Counter(each.kind for each in self.duplicates)
        return {kind: counts[kind] for kind in (BYTES, PIXELS, NEAR)}


def dedupe(
    images: str | Path,
    other: str | Path | None = None,
    *,
    output: str | Path | None = None,
    threshold: float | None = None,
    model: str | Path | None = None,
    move: str | Path | None = None,
    link: str | Path | None = None,
    table: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Duplicates:
    """Find copies of images, exact and near; each lies within the threshold of the one that is
    kept.

        >>> dedupe("photos.parquet", threshold=0.99, output="mine.csv", quiet=True).kinds
        {'same bytes': 0, 'same pixels': 0, 'near': 0}

    Args:
        images: a table, or images, which are embedded first.
        other: a second table or images: then its images that have a copy in the first are found
            (leakage).
        output: .parquet or .csv; NAME.duplicates.parquet unless given.
        threshold: least cosine similarity of a copy; chosen on copies made of a sample of the
            images unless given.
        model: what embeds images.
        move: a folder that copies are moved into, at their own paths; the kept ones stay.
        link: a folder of symbolic links to the copies, to look at.
        table: where the table of images is kept.
        overwrite: replace an output that is there.

    Raises:
        UsageError: a threshold outside (0, 1], or move and link together.
        OriginMismatch: the two tables were made by different models or preprocessing.
        OutputExists: something stands at the output.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"threshold={threshold} is not above 0 and at most 1.")
    if move and link:
        raise UsageError("move and link exclude each other: give one of the two.")
    if move and other:
        raise UsageError("move is for copies within one table: give it without a second one.")
    given = open_input(images, model=model, table=table, device=device, quiet=quiet)
    place = Path(output) if output else companion(given.path, DUPLICATES_SUFFIX)
    check_place(place, (PARQUET, CSV), overwrite)
    second = None
    if other is not None:
        second = open_input(
            other, model=model, like=given.origin, like_name=given.path, device=device, quiet=quiet
        )
        require_same_origin(given.origin, given.path, second.origin, second.path)
    paths, vectors = _read(given)
    chosen = (
        Threshold(threshold, given=True)
        if threshold
        else calibrate_threshold(given, vectors, paths, model, device)
    )
    where = choose_device(device)
    if second:
        found = _leaked(given, paths, vectors, second, chosen.value, where, quiet)
    else:
        found = _within(given, paths, vectors, chosen.value, where, quiet)
    _write(place, found)
    moved = _put(found, given if second is None else second, move or link, moves=move is not None)
    return Duplicates(
        output=place,
        table=given.path,
        images=second.rows if second else given.rows,
        groups=len({each.group for each in found}),
        duplicates=found,
        threshold=chosen,
        other=second.path if second else None,
        moved=moved,
    )


def _read(given: Given) -> tuple[list[str], npt.NDArray[np.float32]]:
    vectors = np.empty((given.rows, given.width), np.float32)
    paths: list[str] = []
    for rows in rows_of(given):
        vectors[rows.start : rows.start + len(rows.paths)] = rows.vectors
        paths += rows.paths
    return paths, vectors


def _within(
    given: Given,
    paths: list[str],
    vectors: npt.NDArray[np.float32],
    threshold: float,
    device: torch.device,
    quiet: bool,
) -> list[Duplicate]:
    root = given.table.provenance.root
    areas = np.concatenate(
        [batch.sizes.astype(np.int64).prod(axis=1) for batch in given.table.batches()]
    )
    weights = np.array([_file_size(root, path) for path in paths], np.int64)
    sums = list(read_image_sums(given.path))
    # of equal ones, `cat.jpg` before `cat copy.jpg`
    lengths = np.array([len(path) for path in paths])
    order = np.lexsort((np.array(paths), lengths, -weights, -areas))
    with progress_bar(given.rows, "comparing", quiet=quiet) as bar:
        copies = find_copies(vectors, order, threshold, device=device, advance=bar.advance)
    return _described(copies, paths, areas, weights, sums, root)


def _described(
    copies: Copies,
    paths: list[str],
    areas: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int64],
    sums: list[str | None],
    root: str,
) -> list[Duplicate]:
    rows = np.flatnonzero(copies.keeper != np.arange(len(paths)))
    sizes = Counter(copies.keeper[rows].tolist())
    numbers = {
        kept: n
        for n, (kept, _) in enumerate(
            sorted(sizes.items(), key=lambda item: (-item[1], paths[item[0]]))
        )
    }
    found = []
    for row in rows.tolist():
        kept = int(copies.keeper[row])
        if areas[kept] > areas[row]:
            reason = "larger"
        elif weights[kept] > weights[row]:
            reason = "more bytes at the same size"
        elif len(paths[kept]) < len(paths[row]):
            reason = "shorter path"
        else:
            reason = "first by name"
        files = (image_file(root, paths[row]), image_file(root, paths[kept]))
        kind = _kind(*files, (sums[row], sums[kept]))
        similarity = float(copies.similarity[row])
        found.append(Duplicate(numbers[kept], paths[row], paths[kept], kind, similarity, reason))
    return sorted(found, key=lambda each: (each.group, each.path))


def _leaked(
    given: Given,
    paths: list[str],
    vectors: npt.NDArray[np.float32],
    second: Given,
    threshold: float,
    device: torch.device,
    quiet: bool,
) -> list[Duplicate]:
    names, asked = _read(second)
    known, asked_known = list(read_image_sums(given.path)), list(read_image_sums(second.path))
    with progress_bar(given.rows, "comparing", quiet=quiet) as bar:
        rows = copied_rows(vectors, asked, threshold, device=device, advance=bar.advance)
    found = []
    groups: dict[int, int] = {}
    for place in np.flatnonzero(rows >= 0).tolist():
        row = int(rows[place])
        first, other = vectors[row], asked[place]
        similarity = float(first @ other / (np.linalg.norm(first) * np.linalg.norm(other)))
        here = image_file(second.table.provenance.root, names[place])
        there = image_file(given.table.provenance.root, paths[row])
        kind = _kind(here, there, (asked_known[place], known[row]))
        group = groups.setdefault(row, len(groups))
        found.append(
            Duplicate(group, names[place], paths[row], kind, similarity, "in the first table")
        )
    return found


def _file_size(root: str, path: str) -> int:
    try:
        return os.stat(image_file(root, path)).st_size  # noqa: PTH116 (quicker for many)
    except OSError:
        return 0


def _kind(first: Path, second: Path, sums: tuple[str | None, str | None]) -> str:
    """How alike two files are: by the sums in their tables, else by themselves; near where one is
    not at hand.
    """
    known = None not in sums
    if known and sums[0] == sums[1]:
        return BYTES
    try:
        if not (first.is_file() and second.is_file()):
            return NEAR
        if (
            not known
            and first.stat().st_size == second.stat().st_size
            and _digest(first) == _digest(second)
        ):
            return BYTES
        pixels = [np.asarray(read_image(file)) for file in (first, second)]
    except (OSError, UnreadableImage):
        return NEAR
    return (
        PIXELS
        if pixels[0].shape == pixels[1].shape and bool((pixels[0] == pixels[1]).all())
        else NEAR
    )


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _write(place: Path, found: list[Duplicate]) -> None:
    columns = {
        "group": pa.array([each.group for each in found], pa.int32()),
        "path": pa.array([each.path for each in found], pa.string()),
        "kept": pa.array([each.kept for each in found], pa.string()),
        "kind": pa.array([each.kind for each in found], pa.string()),
        "similarity": pa.array([each.similarity for each in found], pa.float32()),
        "reason": pa.array([each.reason for each in found], pa.string()),
    }
    table = pa.table(columns)
    with whole_file(place) as file:
        if place.suffix == PARQUET:
            with parquet_writer(file, table.schema) as writer:
                writer.write_table(table)
            return
        text = _csv_lines(table)
        file.write(text.encode())


def _csv_lines(table: pa.Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return buffer.getvalue()


def _put(found: list[Duplicate], given: Given, folder: str | Path | None, *, moves: bool) -> int:
    """Move copies into a folder, or link them there; nothing is ever deleted or replaced."""
    if folder is None:
        return 0
    root = given.table.provenance.root
    count = 0
    for each in found:
        file = image_file(root, each.path)
        target = Path(folder) / each.path
        if not file.is_file() or target.exists() or target.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if moves:
            shutil.move(file, target)
        else:
            target.symlink_to(file.resolve())
        count += 1
    return count
