"""The table that stands where a run would put its own: whether it is that very one, and what can be
taken over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pauc_hub.embedding.plan import Form, Plan, differences
from pauc_hub.embedding.update import Row
from pauc_hub.embedding.workspace import check_start, finish_moving, read_begun
from pauc_hub.errors import OutputExists
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.sources import Source
from pauc_hub.sources.value_ranges import with_measured_range
from pauc_hub.tables.stored import read_batches, read_names, read_receipt
from pauc_hub.tables.sums import has_sums, read_image_sums


@dataclass(frozen=True)
class Earlier:
    """A table made by the same model from an earlier state of the same source."""

    output: Path
    receipt: dict[str, Any]

    @property
    def newest(self) -> float:
        """When the last changed of its images was changed, in seconds since 1970."""
        return float(self.receipt["newest"])

    def names(self) -> Iterator[str]:
        return read_names(self.output)

    def rows(self) -> Iterator[Row]:
        sums = read_image_sums(self.output)
        for batch in read_batches(self.output):
            yield from map(
                Row, batch.paths, batch.embeddings, batch.sizes, islice(sums, len(batch.paths))
            )

    @property
    def lacks_sums(self) -> bool:
        """Whether a version made it that did not work out the sums of images."""
        return not has_sums(self.output)


def check_table_place(output: Path, *, overwrite: bool) -> None:
    """Find out before any work whether a run can put its table there, or may find it complete.

    Raises:
        UsageError, OutputExists, PaucError: as check_start() does.
    """
    finish_moving(output)
    finished = output.exists() and read_receipt(output) is not None
    check_start(output, overwrite or finished)


def choose_reading(
    output: Path,
    source: Source,
    given: Reading,
    *,
    overwrite: bool,
    restart: bool,
    learnt: Reading = PLAIN,
) -> Reading:
    """How to read the images: as the stopped run did, or the table that stands there; else as the
    source needs it.

    Args:
        source: the whole, not the share of one process.
        given: goes before all that.
        overwrite, restart: as for embed_files().
        learnt: that the model was trained with, which goes before what would be measured.
    """
    begun = None if restart else read_begun(output)
    if begun is None and not overwrite and output.exists():
        begun = (read_receipt(output) or {}).get("preprocessing")
    if begun is None:
        return with_measured_range(source, given, learnt=learnt)
    then = Reading.from_config(begun)
    value_range = then.value_range if given.value_range is None else given.value_range
    return Reading(value_range, given.bands or then.bands)


def find_complete(output: Path, plan: Plan, form: Form, update: bool) -> tuple[int, int] | None:
    """Images and unreadable ones of the table at `output`, where it is what `plan` would make; None
    without a table.

    Raises:
        OutputExists: it is another table; with `update`, None is returned for that.
    """
    if not output.exists() or (receipt := read_receipt(output)) is None:
        return None  # what is no table of ours, check_output() refuses
    changed = differences(receipt, _described(plan, form))
    if not changed:
        return receipt["rows"], receipt["unreadable"]
    if update:
        return None
    raise OutputExists(
        f"'{output}' exists, with another {changed}. Name another place, or give overwrite=True"
        + (
            " to embed all, or update=True to embed what changed."
            if _can_update(receipt, plan, form)
            else "."
        )
    )


def open_earlier(output: Path, plan: Plan, form: Form) -> Earlier | None:
    """The table to update; None where there is none yet.

    Raises:
        OutputExists: it was made otherwise, so that its rows cannot be taken over.
    """
    if not output.exists():
        return None
    receipt = read_receipt(output)
    if receipt is None:
        raise OutputExists(
            f"'{output}' is no table of `pauc embed` that could be updated. Name another place."
        )
    if not _can_update(receipt, plan, form):
        changed = differences(receipt, _without_images(_described(plan, form)))
        raise OutputExists(
            f"'{output}' cannot be updated: it has another {changed}. overwrite=True embeds all "
            "images anew."
        )
    return Earlier(output, receipt)


def _described(plan: Plan, form: Form) -> dict[str, Any]:
    return plan.to_json() | form.to_json()


def _without_images(described: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key not in ("images", "list_sha256")}


def _can_update(receipt: dict[str, Any], plan: Plan, form: Form) -> bool:
    return not differences(receipt, _without_images(_described(plan, form)))
