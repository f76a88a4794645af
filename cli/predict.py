"""`pauc predict`: classes of new images by a probe."""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.predict import Predictions


def predict(
    images: options.Input,
    probe: Annotated[Path, typer.Option("--probe", help="Probe written by `pauc probe`.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write, .parquet or .csv (default: stdout)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="Folder of the probe's model, if it is not found by name."
        ),
    ] = None,
    table: options.InputTable = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Predict the class of each image, its probability, and the second choice."""
    from pauc_hub.answers.predict import predict as predict_images

    found = predict_images(
        images,
        probe,
        output=output,
        model=model,
        table=table,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(_as_object(found), ensure_ascii=False))
    elif not output:
        _print_rows(found)
    if not quiet and not as_json:
        # Results that are piped elsewhere stay free of it.
        print(_sentence(found), file=sys.stdout if output else sys.stderr)
    raise typer.Exit(SOME_UNREADABLE if found.unreadable else 0)


def _sentence(found: "Predictions") -> str:
    commonest = sorted(found.counts.items(), key=lambda each: -each[1])[:5]
    counts = ", ".join(f"{count} {name}" for name, count in commonest if count)
    error = found.calibration_error
    trust = (
        ""
        if error is None
        else f"; probabilities were off by {error:.1%} on average where they were tested"
    )
    place = f"{found.output}: " if found.output else ""
    return f"{place}{found.images} images: {counts}{trust}"


def _as_object(found: "Predictions") -> dict[str, object]:
    return {
        "images": found.images,
        "unreadable": found.unreadable,
        "counts": found.counts,
        "calibration_error": found.calibration_error,
        "output": None if found.output is None else str(found.output),
        "seconds": round(found.seconds, 1),
        "predictions": found.rows.to_pylist(),
    }


def _print_rows(found: "Predictions") -> None:
    """As CSV, so that any tool reads it."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(found.rows.column_names)
    for row in found.rows.to_pylist():
        writer.writerow([_cell(value) for value in row.values()])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "; ".join(value) if isinstance(value, list) else value
