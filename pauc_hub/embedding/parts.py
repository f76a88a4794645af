"""Several processes at one source: the part that is each one's own.

They never communicate: each embeds a stretch of the images into a part of its own, so none waits
for another, none needs a port, and one that dies is started again by itself.
"""

from pathlib import Path

from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.files.ownership import require_own
from pauc_hub.processes import Ranks
from pauc_hub.sources import Source
from pauc_hub.tables.table import PARQUET


def share(source: Source, ranks: Ranks) -> Source:
    """The images that this process embeds."""
    return source.share(ranks.rank, ranks.count) if ranks.several else source


def part_of(output: Path, ranks: Ranks) -> Path:
    """The table that this process writes: `output` itself, or a part of it in a folder of that
    name, which is made.

    Raises:
        UsageError: `output` cannot be such a folder.
        OutputExists: there is a file, or parts of another number of processes.
    """
    if not ranks.several:
        return output
    if output.suffix != PARQUET:
        raise UsageError(
            f"{ranks.count} processes write parts in {PARQUET} alone; the output is '{output}'."
        )
    require_own(output)
    try:
        output.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise OutputExists(
            f"'{output}' is the table of one process. Name another place."
        ) from error
    except OSError as error:
        raise UsageError(
            f"'{output}' cannot be made ({error.strerror}). Name another place."
        ) from error
    if strange := [
        path.name for path in output.glob("part-*") if f"-of-{ranks.count:05}." not in path.name
    ]:
        raise OutputExists(
            f"'{output}' holds parts of another number of processes ({min(strange)}). Name "
            "another place."
        )
    return output / f"part-{ranks.rank:05}-of-{ranks.count:05}{PARQUET}"
