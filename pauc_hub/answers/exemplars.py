"""The images that show what a prototype holds: its most central ones, and those at its border. N
rows, K prototypes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.assignments import Tally
from pauc_hub.clustering.prototype_set import PrototypeSet
from pauc_hub.tables.stored import read_names
from pauc_hub.tables.table import whole_file

EXEMPLARS_SUFFIX = ".exemplars.csv"
EXEMPLAR_COLUMNS = (
    "granularity",
    "prototype",
    "name",
    "size",
    "kind",
    "rank",
    "path",
    "similarity",
    "margin",
)
_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examples:
    """The images of one prototype, as rows of the table."""

    prototype: int
    size: int
    central: _Rows
    """The most similar first."""
    borderline: _Rows
    """Those nearest to another prototype first; none of the central ones."""


def choose_examples(tally: Tally, k: int, count: int) -> list[Examples]:
    """At most `count` images of each kind for each of K prototypes, the largest prototype first."""
    sizes = tally.sizes(k)
    ends = np.cumsum(sizes)
    rows = np.arange(len(tally.prototype))
    by_similarity = np.lexsort((rows, -tally.similarity, tally.prototype))
    by_margin = np.lexsort((rows, tally.margin, tally.prototype))
    found = []
    for prototype in np.argsort(-sizes, kind="stable").tolist():
        members = slice(int(ends[prototype] - sizes[prototype]), int(ends[prototype]))
        # of a few members, too, the last ones are borderline
        central = by_similarity[members][: min(count, -(-int(sizes[prototype]) * 2 // 3))]
        near_others = by_margin[members][: 2 * count]
        borderline = near_others[~np.isin(near_others, central)][:count]
        found.append(Examples(prototype, int(sizes[prototype]), central, borderline))
    return found


def paths_of(table: Path, examples: Sequence[Sequence[Examples]]) -> dict[int, str]:
    """The paths of all rows that stand in the examples."""
    wanted = {
        int(row)
        for level in examples
        for each in level
        for rows in (each.central, each.borderline)
        for row in rows
    }
    return {row: name for row, name in enumerate(read_names(table)) if row in wanted}


def write_examples(
    path: Path,
    prototypes: PrototypeSet,
    tallies: Sequence[Tally],
    examples: Sequence[Sequence[Examples]],
    paths: dict[int, str],
) -> None:
    """Write them as CSV, the coarsest granularity first, whole or not at all.

    Raises:
        PaucError: it cannot be written.
    """
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(EXEMPLAR_COLUMNS)
        for m, level in enumerate(examples):
            for each in level:
                head = (
                    prototypes.granularities[m],
                    each.prototype,
                    prototypes.names[m][each.prototype],
                    each.size,
                )
                for kind, rows in (("central", each.central), ("borderline", each.borderline)):
                    for rank, row in enumerate(rows.tolist(), start=1):
                        numbers = (tallies[m].similarity[row], tallies[m].margin[row])
                        shown = ["" if np.isnan(number) else f"{number:.6f}" for number in numbers]
                        writer.writerow([*head, kind, rank, paths[row], *shown])
        text.flush()
        text.detach()
