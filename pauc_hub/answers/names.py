"""Names for prototypes, from a CSV file: columns prototype, name and, but for the finest,
granularity.
"""

import csv
from difflib import get_close_matches
from pathlib import Path

from pauc_hub.answers.assignments import check_place
from pauc_hub.clustering.prototype_set import (
    PROTOTYPES_SUFFIX,
    PrototypeSet,
    read_prototypes,
    write_prototypes,
)
from pauc_hub.errors import UsageError

NAME_COLUMNS = ("prototype", "name")
GRANULARITY = "granularity"


def read_prototype_names(path: Path) -> list[tuple[int | None, int, str]]:
    """Granularity (None for the finest), prototype and name of each line; lines without a name are
    passed over.

    Raises:
        UsageError: no such file, or a line that cannot be understood.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            for column in NAME_COLUMNS:
                if column not in columns:
                    near = get_close_matches(column, columns, n=1)
                    hint = f" Is it '{near[0]}'?" if near else ""
                    raise UsageError(
                        f"'{path}' has no column '{column}' (its columns: "
                        f"{', '.join(columns)}).{hint}"
                    )
            return [_entry(path, reader.line_num, row) for row in reader if row["name"]]
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"'{path}' is no CSV file in UTF-8 ({error}).") from error


def name_prototypes(prototypes: PrototypeSet, path: Path) -> PrototypeSet:
    """The same prototypes with the names that stand in a CSV file.

    Raises:
        UsageError: no such file, a line that cannot be understood, or a prototype or granularity
            that there is not.
    """
    named: list[dict[int, str]] = [{} for _ in prototypes.levels]
    for granularity, prototype, name in read_prototype_names(path):
        k = prototypes.granularities[-1] if granularity is None else granularity
        if k not in prototypes.granularities:
            known = ", ".join(map(str, prototypes.granularities))
            raise UsageError(f"'{path}' names a prototype of granularity {k}; there are {known}.")
        if not 0 <= prototype < k:
            raise UsageError(f"'{path}' names prototype {prototype} of {k}: they are 0 to {k - 1}.")
        named[prototypes.granularities.index(k)][prototype] = name
    return prototypes.renamed(named)


def name_file(
    path: Path, names: Path, output: Path | None = None, *, overwrite: bool = False
) -> int:
    """Name the prototypes in a prototypes file.

    Args:
        names: a CSV file.
        output: where the named ones go; to where they were unless given.
        overwrite: replace what stands at `output`.

    Returns:
        How many prototypes have a name now.

    Raises:
        ArtefactError: it is no prototypes file.
        UsageError, OutputExists: as name_prototypes() and check_place().
    """
    if output and output.resolve() != path.resolve():
        check_place(output, (PROTOTYPES_SUFFIX,), overwrite)
    named = name_prototypes(read_prototypes(path), names)
    write_prototypes(output or path, named)
    return sum(name is not None for level in named.names for name in level)


def _entry(path: Path, line: int, row: dict[str, str]) -> tuple[int | None, int, str]:
    try:
        granularity = row.get(GRANULARITY)
        return (
            (int(granularity) if granularity else None),
            int(row["prototype"]),
            row["name"].strip(),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"line {line} of '{path}' has no number for a prototype ({error})."
        ) from error
