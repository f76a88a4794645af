"""The function behind `pauc assign`: a table or images to the prototypes that each belongs to. N
rows, K prototypes.
"""

from dataclasses import dataclass
from pathlib import Path

from pauc_hub.answers.assignments import (
    ASSIGNMENTS_SUFFIX,
    CSV,
    Tally,
    check_place,
    write_assignments,
)
from pauc_hub.answers.exemplars import EXEMPLARS_SUFFIX, choose_examples, paths_of, write_examples
from pauc_hub.answers.inputs import Given, open_input
from pauc_hub.answers.names import name_prototypes
from pauc_hub.clustering.calibration import ALPHA
from pauc_hub.clustering.prototype_set import PrototypeSet, read_prototypes, unnamed
from pauc_hub.errors import TableError, UsageError
from pauc_hub.models.catalog import DEFAULT_MODEL
from pauc_hub.models.folder import MODEL_CONFIG, PROTOTYPES, ModelFolder
from pauc_hub.models.opening import open_model
from pauc_hub.tables.stored import is_table, read_provenance
from pauc_hub.tables.table import PARQUET, companion

PROTOTYPE_SPACE = "projection"


@dataclass(frozen=True, eq=False)
class Assignments:
    """What assign() gives."""

    output: Path
    table: Path
    exemplars: Path | None
    prototypes: PrototypeSet
    rows: int
    levels: tuple[Tally, ...]
    """Where all rows fell at each granularity, the coarsest first."""
    outliers: int | None
    """None where the prototypes are uncalibrated."""
    alpha: float
    unreadable: int
    """Images that could not be embedded."""


def assign(
    images: str | Path,
    *,
    prototypes: str | Path | None = None,
    model: str | Path | None = None,
    output: str | Path | None = None,
    names: str | Path | None = None,
    exemplars: int = 0,
    alpha: float = ALPHA,
    table: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Assignments:
    """Say to which prototypes images belong, how clearly and how confidently, and which are like
    none of them.

        >>> prototypes = "photos.prototypes.safetensors"
        >>> found = assign("photos.parquet", prototypes=prototypes, output="mine.csv", quiet=True)
        >>> found.rows
        15

    Args:
        images: a table that embed() wrote, or images, which are embedded first.
        prototypes: a file that cluster() wrote; the model's own prototypes unless given.
        model: a model folder or a name that `pauc models` lists; the one that made the prototypes
            or the table unless given.
        output: .parquet or .csv; NAME.assignments.parquet beside the table unless given.
        names: a CSV file with names for prototypes, besides those in the file.
        exemplars: most central and borderline images to list for each prototype, in
            NAME.exemplars.csv.
        alpha: share of images from the prototypes' own source that are flagged as outliers.
        table: where the table of images is kept; beside them unless given.
        device: to embed images on.
        overwrite: replace what stands at the outputs.
        quiet: no progress bar.

    Raises:
        UsageError: the model has no prototypes, or an output has a wrong name.
        OriginMismatch: the table and the prototypes are of different weights, spaces or
            preprocessing.
        OutputExists: something stands at an output.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha={alpha} is not between 0 and 1.")
    if output:
        check_place(Path(output), (PARQUET, CSV), overwrite)
    if prototypes:
        _refuse_model(Path(prototypes))
        found = read_prototypes(Path(prototypes))
        given = open_input(
            images,
            model=model,
            like=found.origin,
            like_name=prototypes,
            table=table,
            device=device,
            quiet=quiet,
        )
    else:
        given, found = _of_model(images, model, table, device, quiet)
    if given.width != found.width:
        raise TableError(
            f"'{given.path}' has {given.width} numbers an image, and the prototypes have "
            f"{found.width}."
        )
    if names:
        found = name_prototypes(found, Path(names))
    place = Path(output) if output else companion(given.path, ASSIGNMENTS_SUFFIX)
    check_place(place, (PARQUET, CSV), overwrite)
    listed = _beside(place, EXEMPLARS_SUFFIX) if exemplars else None
    if listed:
        check_place(listed, (EXEMPLARS_SUFFIX,), overwrite)
    tallies = write_assignments(given, found, place, alpha, quiet)
    if listed:
        chosen_examples = [
            choose_examples(tally, k, exemplars)
            for tally, k in zip(tallies.levels, found.granularities, strict=True)
        ]
        paths = paths_of(given.path, chosen_examples)
        write_examples(listed, found, tallies.levels, chosen_examples, paths)
    return Assignments(
        output=place,
        table=given.path,
        exemplars=listed,
        prototypes=found,
        rows=given.rows,
        levels=tallies.levels,
        outliers=tallies.outliers,
        alpha=alpha,
        unreadable=given.unreadable,
    )


def _beside(output: Path, suffix: str) -> Path:
    stem = output.name.removesuffix(output.suffix).removesuffix(".assignments")
    return output.with_name(stem + suffix)


def _refuse_model(prototypes: Path) -> None:
    """Raise UsageError where a model folder, or the prototypes in one, is given for a prototypes
    file.
    """
    folder = prototypes.parent if prototypes.name == PROTOTYPES else prototypes
    if (folder / MODEL_CONFIG).is_file():
        raise UsageError(
            f"'{prototypes}' belongs to a model: give model='{folder}' in place of prototypes."
        )


def _of_model(
    images: str | Path, model: str | Path | None, table: str | Path | None, device: str, quiet: bool
) -> tuple[Given, PrototypeSet]:
    """The images in the space of the model's own prototypes, and those."""
    place = Path(images)
    named = read_provenance(place).model if is_table(place) and not model else model
    chosen = named or DEFAULT_MODEL
    folder = open_model(chosen, quiet=quiet)
    levels = folder.read_prototypes()
    if not levels:
        raise UsageError(
            f"model '{folder.name}' has no prototypes. Make some with `pauc cluster`, and give "
            "prototypes=FILE."
        )
    given = open_input(
        images, model=chosen, space=PROTOTYPE_SPACE, table=table, device=device, quiet=quiet
    )
    _require_projected_by(folder, given)
    calibration = folder.read_calibration()
    return given, PrototypeSet(
        levels, given.origin, nested=False, names=unnamed(levels), calibration=calibration
    )


def _require_projected_by(folder: ModelFolder, given: Given) -> None:
    origin = given.origin
    if origin.weights_sha256 != folder.weights_sha256:
        raise TableError(
            f"'{given.path}' was made by {origin}, and not by '{folder.name}'. Give its own, "
            "model=NAME, or the images."
        )
    if origin.space != PROTOTYPE_SPACE or origin.pca:
        raise TableError(
            f"'{given.path}' holds the {origin.space} "
            f"space{' after a PCA' if origin.pca else ''}, and a model's "
            "prototypes live in the projection space: `pauc embed IMAGES --space projection`, "
            "or give the images."
        )
