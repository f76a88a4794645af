"""What a run has done, joined into the files that the user gets. N rows, D width."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pauc_hub.embedding.bytes_sum import bytes_sum
from pauc_hub.embedding.earlier import Earlier
from pauc_hub.embedding.plan import Form, Plan
from pauc_hub.embedding.shards import Outcomes
from pauc_hub.embedding.update import merged, together
from pauc_hub.embedding.workspace import ERRORS, Workspace
from pauc_hub.errors import NoImages, PaucError
from pauc_hub.sources import Source
from pauc_hub.tables.outputs import open_output, pca_path
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import errors_path, write_errors

SAMPLE_ROWS = 1 << 14  # that principal components are fitted to: 128 MB where 2048 wide
ROWS_TOGETHER = 1 << 12  # of a table that is updated

Parts = Callable[[], Iterator[Outcomes]]


def join_parts(
    work: Workspace, plan: Plan, form: Form, source: Source, earlier: Earlier | None, *, part: bool
) -> tuple[int, int]:
    """Write the finished files, and put them in their places.

    Args:
        plan: of all images, those taken over from `earlier` included.
        part: whether the table may be empty.

    Returns:
        how many images have a row, and how many could not be read.

    Raises:
        NoImages: there is not one row; only the errors table is left then.
        PaucError: there is no room; or a number is too large, or are too few rows, for the form.
    """
    folder, output = work.making(), work.output
    errors = folder / ERRORS
    unreadable = write_errors(
        errors, (reason for done in work.outcomes() for reason in done.unreadable)
    )
    if not unreadable:
        errors.unlink()
    pca = _pca(work, form, work.done - unreadable, earlier)
    parts = _merged_parts(work, pca, source, earlier) if earlier else work.outcomes
    rows = _counted(work, source, earlier) if earlier else work.done - unreadable
    if not rows and not part:
        raise _nothing(work, plan, unreadable)
    counts = {"rows": rows, "unreadable": unreadable, "newest": _newest(work, earlier)}
    receipt, place = plan.to_json() | form.to_json() | counts, folder / output.name
    # its rows went through the PCA already, and the added ones did in _merged_parts()
    if earlier and pca:
        pca.save(pca_path(place))
        plan = replace(plan, width=pca.width, provenance=replace(plan.provenance, pca=pca.sha256))
        pca = None
    with open_output(place, plan.width, rows, plan.provenance, form.dtype, pca, receipt) as table:
        for done in parts():
            table.write(done.paths, done.embeddings, done.sizes, done.sums)
    work.publish()
    return rows, unreadable


def _merged_parts(work: Workspace, pca: Pca | None, source: Source, earlier: Earlier) -> Parts:
    def added() -> Iterator[Outcomes]:
        for done in work.outcomes():
            yield replace(done, embeddings=pca.project(done.embeddings)) if pca else done

    def parts() -> Iterator[Outcomes]:
        return together(merged(source.entries(), earlier.rows(), added(), bytes_sum), ROWS_TOGETHER)

    return parts


def _counted(work: Workspace, source: Source, earlier: Earlier) -> int:
    return sum(1 for _ in merged(source.entries(), earlier.rows(), work.outcomes()))


def _pca(work: Workspace, form: Form, rows: int, earlier: Earlier | None) -> Pca | None:
    """That of the earlier table, lest its rows change; else fitted to every so-manieth row."""
    if form.pca and earlier:
        return Pca.read(pca_path(work.output))
    if not form.pca or not rows:
        return None
    return Pca.fit(_sample(work, max(1, rows // SAMPLE_ROWS)), form.pca)


def _sample(work: Workspace, step: int) -> npt.NDArray[np.float32]:
    """Every `step`-th row: (n, D)."""
    chosen, skip = list[npt.NDArray[np.float32]](), 0
    for done in work.outcomes():
        chosen.append(done.embeddings[skip::step].copy())
        skip = (skip - len(done.embeddings)) % step
    return np.concatenate(chosen)


def _newest(work: Workspace, earlier: Earlier | None) -> float:
    return max([earlier.newest if earlier else 0.0, *(done.newest for done in work.outcomes())])


def _nothing(work: Workspace, plan: Plan, unreadable: int) -> PaucError:
    first = next((reason for done in work.outcomes() for reason in done.unreadable), None)
    work.publish()
    if first is None:
        return NoImages(f"no images in '{plan.provenance.root}'.")
    return NoImages(
        f"none of {unreadable} images could be read; '{first.path}': {first.message}. "
        f"All are listed in '{errors_path(work.output)}'."
    )
