"""`pauc cluster`: images to prototypes at several granularities."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.errors import UsageError
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.cluster import Clustered

LARGEST_SHOWN = 5


def cluster(
    images: options.Input,
    k: Annotated[
        str,
        typer.Option(
            "-k", metavar="NUMBERS|auto", help="Numbers of prototypes, such as 50,200,1000."
        ),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="NAME.prototypes.safetensors (default: beside the table)."
        ),
    ] = None,
    names: options.Names = None,
    exemplars: Annotated[
        int,
        typer.Option(
            min=1, help="Central images, and as many borderline ones, to show for each prototype."
        ),
    ] = 9,
    model: options.InputModel = None,
    table: options.InputTable = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Group similar images at several granularities, and write a page of examples.

    With a prototypes file and --names, names the prototypes in that file.
    """
    if images.endswith(".prototypes.safetensors"):
        _name(Path(images), names, output, overwrite, as_json, quiet)
        return
    from pauc_hub.answers.cluster import cluster as find_prototypes

    found = find_prototypes(
        images,
        numbers_of(k),
        output=output,
        names=names,
        exemplars=exemplars,
        model=model,
        table=table,
        seed=seed,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(_as_object(found)))
    elif not quiet:
        print(_as_text(found))
    if found.unpictured and not quiet:
        print(
            (
                f"note: {found.unpictured} of the images on {found.sheet} cannot be read where the "
                "table says they are"
            ),
            file=sys.stderr,
        )
    raise typer.Exit(SOME_UNREADABLE if found.unreadable else 0)


def numbers_of(text: str) -> list[int] | str:
    """`50,200` as a list; `auto` as it is."""
    if text == "auto":
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"-k '{text}' is neither auto nor a list of numbers, such as 50,200,1000."
        ) from None


def _name(
    path: Path, names: Path | None, output: Path | None, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    from pauc_hub.answers.names import name_file

    if names is None:
        raise UsageError(
            f"'{path}' is a prototypes file already. Give --names to name its prototypes, or a "
            "table."
        )
    named = name_file(path, names, output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"output": str(output or path), "named": named}))
    elif not quiet:
        print(escaped(f"{output or path}: {named} prototypes have a name"))


def _as_text(found: "Clustered") -> str:
    """What was found: a table of granularities, the largest prototypes, and the files."""
    facts, prototypes = found.prototypes.facts, found.prototypes
    lines = [
        (
            f"{found.output}: {', '.join(map(str, prototypes.granularities))} prototypes of "
            f"{found.rows} images"
        )
    ]
    if facts["empty"]:
        lines.append(
            f"  {facts['empty']} of {facts['asked'][-1]} clusters stayed empty and are left out"
        )
    lines.append("  prototypes  stability  silhouette  largest  smallest")
    for m, (k, level) in enumerate(zip(prototypes.granularities, prototypes.levels, strict=True)):
        silhouette = facts["silhouette"][m]
        shown = "-" if silhouette is None else f"{silhouette:.3f}"
        largest, smallest = int(level.sizes.max()), int(level.sizes.min())
        lines.append(
            f"  {k:10}  {facts['stability'][m]:9.3f}  {shown:>10}  {largest:7}  {smallest:8}"
        )
    if calibration := prototypes.calibration:
        errors = ", ".join(f"{error:.3f}" for error in calibration.errors)
        lines.append(
            f"  calibrated on {facts['kept']} images kept out: calibration error {errors}; "
            f"outliers: asked for {100 * calibration.alpha:g} %, "
            f"{100 * calibration.flagged:.1f} % on the other half"
        )
    else:
        lines.append(
            "  uncalibrated: confidences and outliers need at least 500 images, and twice as "
            "many as -k"
        )
    lines += [
        f"  look at   {found.sheet}",
        f"  each image in {found.assignments}",
        f"  examples  {found.exemplars}",
    ]
    return "\n".join(map(escaped, lines))


def _as_object(found: "Clustered") -> dict[str, Any]:
    prototypes, calibration = found.prototypes, found.prototypes.calibration
    return {
        "output": str(found.output),
        "assignments": str(found.assignments),
        "exemplars": str(found.exemplars),
        "html": str(found.sheet),
        "table": str(found.table),
        "images": found.rows,
        "unreadable": found.unreadable,
        "outliers": found.outliers,
        "granularities": [
            {"prototypes": k, "sizes": level.sizes.tolist(), "names": list(names)}
            for k, level, names in zip(
                prototypes.granularities, prototypes.levels, prototypes.names, strict=True
            )
        ],
        "nested": prototypes.nested,
        "calibration": calibration
        and {
            "temperature": calibration.temperatures[-1],
            "errors": list(calibration.errors),
            "alpha": calibration.alpha,
            "flagged": calibration.flagged,
        },
        **{
            name: prototypes.facts[name]
            for name in ("stability", "silhouette", "objective", "empty", "seed", "kept")
        },
    }
