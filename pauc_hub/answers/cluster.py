"""The function behind `pauc cluster`: a table or images to prototypes at several granularities. N
rows, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pauc_hub.answers.assignments import (
    ASSIGNMENTS_SUFFIX,
    check_place,
    unit_points,
    write_assignments,
)
from pauc_hub.answers.cluster_state import ClusterState
from pauc_hub.answers.contact_sheet import SHEET_SUFFIX, write_contact_sheet
from pauc_hub.answers.exemplars import EXEMPLARS_SUFFIX, choose_examples, paths_of, write_examples
from pauc_hub.answers.inputs import Given, open_input, rows_of
from pauc_hub.answers.names import name_prototypes
from pauc_hub.clustering.assignment import assign_points
from pauc_hub.clustering.calibration import ALPHA, calibrate
from pauc_hub.clustering.hierarchy import LARGEST_K
from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.clustering.nested import among_used, nested_prototypes
from pauc_hub.clustering.prototype_set import PROTOTYPES_SUFFIX, PrototypeSet, write_prototypes
from pauc_hub.clustering.reclustering import ITERATIONS, TOLERANCE, recluster
from pauc_hub.errors import Interrupted, UsageError
from pauc_hub.evaluation.calibration import expected_calibration_error
from pauc_hub.evaluation.partitions import adjusted_rand, silhouette
from pauc_hub.progress import progress_bar
from pauc_hub.tables.table import companion

# of the rows, kept out of k-means to calibrate on
KEPT_SHARE, MOST_KEPT = 10, 5000
# fewer rows cannot set a threshold that one in twenty exceeds
FEWEST_TO_CALIBRATE = 500
BOOTSTRAPS = 20
# rows that silhouettes, and without kept rows stability, are worked out on
SAMPLE = 5000
# `auto`: rows of a prototype at the finest granularity, its largest K, and prototypes within a
# coarser one
AUTO_ROWS, AUTO_LARGEST, AUTO_STEP = 20, 1000, 4


@dataclass(frozen=True, eq=False)
class Clustered:
    """What cluster() gives."""

    prototypes: PrototypeSet
    output: Path
    """The prototypes file."""
    assignments: Path
    exemplars: Path
    sheet: Path
    """The page of images to look at."""
    table: Path
    rows: int
    outliers: int | None
    """None without a calibration."""
    pictured: int
    """Images on the page."""
    unpictured: int
    """Images that belong on the page and cannot be read where the table says that they are."""
    unreadable: int
    """Images that could not be embedded."""


@dataclass(frozen=True, eq=False)
class _Points:
    """The rows of a table at unit length."""

    fitted: Tensor
    """(N - m, D), which are clustered."""
    kept: Tensor
    """(m, D), which are not."""


def cluster(
    images: str | Path,
    k: int | Sequence[int] | str = "auto",
    *,
    output: str | Path | None = None,
    names: str | Path | None = None,
    exemplars: int = 9,
    model: str | Path | None = None,
    table: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Clustered:
    """Find prototypes among embeddings: k-means at the finest granularity, and Ward's hierarchy
    above it.

        >>> output = "few.prototypes.safetensors"
        >>> found = cluster("photos.parquet", [2, 4], output=output, quiet=True)
        >>> found.prototypes.granularities
        (2, 4)

    Stopped by Ctrl-C, the same call goes on where it stopped.

    Args:
        images: a table that embed() wrote, or images, which are embedded first.
        k: numbers of prototypes; or `auto` for several that suit the number of images.
        output: NAME.prototypes.safetensors, beside the table unless given.
            NAME.assignments.parquet, NAME.exemplars.csv and NAME.prototypes.html come beside it.
        names: a CSV file with the columns prototype, name and, but for the finest, granularity.
        exemplars: most central images, and as many borderline ones, to list for each prototype.
        model: what embeds images; no matter for a table.
        table: where the table of images is kept; beside them unless given.
        seed: of everything that is drawn.
        device: to embed images on.
        overwrite: replace what stands at the outputs.
        quiet: no progress bar.

    Raises:
        UsageError: more prototypes than distinct rows, or an output of a wrong name; before
            anything is clustered.
        OutputExists: something stands at an output.
        TableError: the table is damaged, empty, or holds numbers that are not finite.
        Interrupted: by Ctrl-C; what is done is saved.
    """
    asked = _granularities(k)
    if output:
        _check_places(Path(output), overwrite)
    given = open_input(images, model=model, table=table, device=device, quiet=quiet)
    place = Path(output) if output else companion(given.path, PROTOTYPES_SUFFIX)
    _check_places(place, overwrite)
    granularities = asked or automatic_granularities(given.rows)
    if granularities[-1] > given.rows:
        raise UsageError(
            f"k={granularities[-1]} is more than the {given.rows} rows of '{given.path}'. Give "
            f"{given.rows} or less."
        )
    points, distinct = _read(given, granularities[-1], seed, quiet)
    if distinct < granularities[-1]:
        if asked:
            raise UsageError(
                f"k={granularities[-1]} is more than the {distinct} different rows of "
                f"'{given.path}'. "
                f"Give {distinct} or less."
            )
        granularities = automatic_granularities(distinct)
        points, _ = _read(given, granularities[-1], seed, quiet)
    state = ClusterState(place, given.origin, _plan(given, granularities, seed))
    try:
        prototypes = _prototypes(given, points, granularities, seed, state, quiet)
    except KeyboardInterrupt as stop:
        state.save()
        raise Interrupted("interrupted; the same command goes on where it stopped.") from stop
    if names:
        prototypes = name_prototypes(prototypes, Path(names))
    found = _write(given, prototypes, place, exemplars, quiet)
    state.remove()
    return found


def automatic_granularities(rows: int) -> tuple[int, ...]:
    """Several numbers of prototypes for so many rows, the coarsest first: no single one is
    right.
    """
    finest = max(1, min(AUTO_LARGEST, rows, max(round(rows / AUTO_ROWS), round(rows**0.5))))
    levels = [finest]
    while len(levels) < 3 and levels[-1] // AUTO_STEP >= 2:
        levels.append(levels[-1] // AUTO_STEP)
    if len(levels) == 1 and finest > 3:
        levels.append(2)
    return tuple(reversed(levels))


def _granularities(k: int | Sequence[int] | str) -> tuple[int, ...] | None:
    """Rising; None for `auto`."""
    if isinstance(k, str):
        if k != "auto":
            raise UsageError(f"k='{k}' is neither auto nor a number nor several numbers.")
        return None
    found = tuple(sorted({k} if isinstance(k, int) else {*k}))
    if not found or found[0] < 1 or found[-1] > LARGEST_K:
        raise UsageError(f"k={','.join(map(str, found)) or '()'} is not within 1 and {LARGEST_K}.")
    return found


def _check_places(output: Path, overwrite: bool) -> None:
    check_place(output, (PROTOTYPES_SUFFIX,), overwrite)
    for suffix in (ASSIGNMENTS_SUFFIX, EXEMPLARS_SUFFIX, SHEET_SUFFIX):
        check_place(_sibling(output, suffix), (suffix,), overwrite)


def _sibling(output: Path, suffix: str) -> Path:
    return output.with_name(output.name.removesuffix(PROTOTYPES_SUFFIX) + suffix)


def _plan(given: Given, granularities: tuple[int, ...], seed: int) -> dict[str, Any]:
    """What decides the outcome; a stopped call goes on where it is the same."""
    files = [*given.table.files, *([given.table.flat.path] if given.table.flat else [])]
    marks = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return {"granularities": granularities, "seed": seed, "table": marks}


def _read(given: Given, k: int, seed: int, quiet: bool) -> tuple[_Points, int]:
    """All rows at unit length, some of them kept out where there are enough; and how many differ,
    counted up to k.
    """
    total = given.rows
    kept = min(MOST_KEPT, total // KEPT_SHARE) if total >= max(FEWEST_TO_CALIBRATE, 2 * k) else 0
    is_kept = np.zeros(total, bool)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:kept].numpy()
    is_kept[order] = True
    points = _Points(torch.empty(total - kept, given.width), torch.empty(kept, given.width))
    distinct: set[bytes] = set()
    filled = 0
    with progress_bar(total, "reading", quiet=quiet) as bar:
        for rows in rows_of(given):
            unit = unit_points(rows.vectors)
            kept_here = torch.from_numpy(is_kept[rows.start : rows.start + len(unit)])
            fitted = unit[~kept_here]
            points.fitted[filled : filled + len(fitted)] = fitted
            points.kept[rows.start - filled : rows.start - filled + int(kept_here.sum())] = unit[
                kept_here
            ]
            filled += len(fitted)
            if len(distinct) < k:
                distinct.update(row.tobytes() for row in fitted.numpy())
            bar.advance(len(unit))
    # in no order, as calibration wants them
    shuffled = torch.randperm(kept, generator=torch.Generator().manual_seed(seed + 1))
    return _Points(points.fitted, points.kept[shuffled]), len(distinct)


def _prototypes(
    given: Given,
    points: _Points,
    granularities: tuple[int, ...],
    seed: int,
    state: ClusterState,
    quiet: bool,
) -> PrototypeSet:
    """k-means, the hierarchy above it, and what both are worth."""
    assignment, centroids, objective = _kmeans(points.fitted, granularities[-1], seed, state, quiet)
    found = nested_prototypes(points.fitted, assignment, centroids, granularities, given.origin)
    reference = among_used(assignment, len(centroids))
    ks = found.granularities
    evaluated = points.kept if len(points.kept) else _sampled(points.fitted, SAMPLE, seed)
    with progress_bar(
        BOOTSTRAPS, "reclustering", "bootstraps", quiet, len(state.reclusterings)
    ) as bar:
        for i in range(len(state.reclusterings), BOOTSTRAPS):
            state.reclustered(recluster(points.fitted, reference, ks, evaluated, seed + 1 + i))
            bar.advance(1)
    found = replace(
        found, facts=_facts(given, points, found, evaluated, objective, granularities, seed, state)
    )
    if not len(points.kept):
        return found
    matched = [[each.matched for each in state.reclusterings]]
    return replace(
        found, calibration=calibrate(points.kept, found, matched, expected_calibration_error)
    )


def _kmeans(
    points: Tensor, k: int, seed: int, state: ClusterState, quiet: bool
) -> tuple[Tensor, Tensor, float]:
    """(N,) assignment, (K, D) unit centroids, and the objective; from where an earlier call
    stopped.
    """
    before = state.iterations
    left = 0 if state.done else ITERATIONS - before
    iterations = count(before)
    with progress_bar(ITERATIONS, "clustering", "iterations", quiet, before) as bar:

        def seen(objective: float, centroids: Tensor) -> None:
            iteration = next(iterations)
            bar.note(objective=f"{objective:.5f}")
            bar.advance(int(iteration > before))
            state.iterated(iteration, centroids)

        found = kmeans(
            points,
            k,
            iterations=left,
            tolerance=TOLERANCE,
            seed=seed,
            start=state.centroids,
            spherical=True,
            backend="torch",
            seen=seen,
        )
    state.clustered(found.centroids)
    return found.assignment, found.centroids, found.objective


def _sampled(points: Tensor, most: int, seed: int) -> Tensor:
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:most]]


def _facts(
    given: Given,
    points: _Points,
    found: PrototypeSet,
    evaluated: Tensor,
    objective: float,
    asked: tuple[int, ...],
    seed: int,
    state: ClusterState,
) -> dict[str, Any]:
    reference = assign_points(evaluated, found)
    sample = _sampled(points.fitted, SAMPLE, seed)
    sampled = assign_points(sample, found)
    stability = [
        float(
            np.mean(
                [adjusted_rand(level.prototype, each.labels[:, m]) for each in state.reclusterings]
            )
        )
        for m, level in enumerate(reference)
    ]
    silhouettes = [silhouette(sample, level.prototype) for level in sampled]
    return {
        "table": given.path.name,
        "rows": given.rows,
        "asked": asked,
        "empty": asked[-1] - found.granularities[-1],
        "seed": seed,
        "iterations": state.iterations,
        "objective": objective,
        "kept": len(points.kept),
        "stability": stability,
        "stability_rows": len(evaluated),
        "silhouette": [None if np.isnan(value) else value for value in silhouettes],
        "silhouette_rows": len(sample),
    }


def _write(
    given: Given, prototypes: PrototypeSet, output: Path, shown: int, quiet: bool
) -> Clustered:
    """The files; the prototypes come last, since whoever finds them finds all."""
    assignments, listed, sheet = (
        _sibling(output, suffix) for suffix in (ASSIGNMENTS_SUFFIX, EXEMPLARS_SUFFIX, SHEET_SUFFIX)
    )
    tallies = write_assignments(given, prototypes, assignments, ALPHA, quiet)
    sized = tuple(
        replace(level, sizes=torch.from_numpy(tally.sizes(len(level.centroids))))
        for level, tally in zip(prototypes.levels, tallies.levels, strict=True)
    )
    prototypes = replace(prototypes, levels=sized)
    examples = [
        choose_examples(tally, k, shown)
        for tally, k in zip(tallies.levels, prototypes.granularities, strict=True)
    ]
    paths = paths_of(given.path, examples)
    write_examples(listed, prototypes, tallies.levels, examples, paths)
    pictured, unpictured = write_contact_sheet(sheet, given, prototypes, examples, paths, quiet)
    write_prototypes(output, prototypes)
    return Clustered(
        prototypes=prototypes,
        output=output,
        assignments=assignments,
        exemplars=listed,
        sheet=sheet,
        table=given.path,
        rows=given.rows,
        outliers=tallies.outliers,
        pictured=pictured,
        unpictured=unpictured,
        unreadable=given.unreadable,
    )
