"""`pauc assign`: images to the prototypes that they belong to."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.assign import Assignments

LARGEST_SHOWN = 5


def assign(
    images: options.Input,
    prototypes: options.Prototypes = None,
    model: options.InputModel = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help=".parquet or .csv (default: NAME.assignments.parquet)."
        ),
    ] = None,
    names: options.Names = None,
    exemplars: Annotated[
        int,
        typer.Option(
            min=0, help="Central and borderline images to list for each prototype, as CSV."
        ),
    ] = 0,
    alpha: Annotated[
        float,
        typer.Option(help="Share of images from the prototypes' own source to flag as outliers."),
    ] = 0.05,
    table: options.InputTable = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Assign images to prototypes, with confidences, and flag outliers.

    Without --prototypes, uses the model's own.
    """
    from pauc_hub.answers.assign import assign as assign_images

    found = assign_images(
        images,
        prototypes=prototypes,
        model=model,
        output=output,
        names=names,
        exemplars=exemplars,
        alpha=alpha,
        table=table,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if found.outliers is None and not quiet:
        print(
            "note: these prototypes are uncalibrated: no confidences, no outliers",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps(_as_object(found)))
    elif not quiet:
        print(_as_text(found))
    raise typer.Exit(SOME_UNREADABLE if found.unreadable else 0)


def _as_text(found: "Assignments") -> str:
    """How many images fell where; the largest prototypes of each granularity."""
    told = f"{found.output}: {found.rows} image{'s' * (found.rows != 1)}"
    if found.outliers is not None:
        share = 100 * found.outliers / found.rows
        expected = f"{100 * found.alpha:g} % are expected of new images from the same source"
        told += f"; {found.outliers} outliers ({share:.1f} %, where {expected})"
    lines = [told]
    for level in _levels(found):
        shown = ", ".join(
            f"{each['name'] or each['prototype']} ({each['images']})" for each in level["largest"]
        )
        lines.append(f"  {level['used']} of {level['prototypes']} prototypes; largest: {shown}")
    lines += [f"  examples: {found.exemplars}"] if found.exemplars else []
    return "\n".join(map(escaped, lines))


def _as_object(found: "Assignments") -> dict[str, Any]:
    return {
        "output": str(found.output),
        "table": str(found.table),
        "exemplars": str(found.exemplars) if found.exemplars else None,
        "images": found.rows,
        "unreadable": found.unreadable,
        "outliers": found.outliers,
        "alpha": found.alpha,
        "calibrated": found.outliers is not None,
        "nested": found.prototypes.nested,
        "granularities": _levels(found),
    }


def _levels(found: "Assignments") -> list[dict[str, Any]]:
    levels = []
    for tally, k, names in zip(
        found.levels, found.prototypes.granularities, found.prototypes.names, strict=True
    ):
        sizes = tally.sizes(k)
        largest = [
            int(each) for each in (-sizes).argsort(kind="stable")[:LARGEST_SHOWN] if sizes[each]
        ]
        levels.append(
            {
                "prototypes": k,
                "used": int((sizes > 0).sum()),
                "largest": [
                    {"prototype": i, "name": names[i], "images": int(sizes[i])} for i in largest
                ],
            }
        )
    return levels
