"""`pauc export`: a model as one file for other runtimes."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pauc_hub.cli import options
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.exporting.export import Exported


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="ONNX file to write.")
    ] = None,
    torch_export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.pt2", help="File to write for torch.export.load() instead."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Images to compare the file with the model on, and to calibrate int8 on.",
            show_default="made pictures",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Of the network; input and outputs keep their types."),
    ] = "fp32",
    space: Annotated[
        Literal["backbone", "projection"],
        typer.Option(
            help="Space of the embedding: backbone features, or the projection (unit vectors)."
        ),
    ] = "backbone",
    uint8: Annotated[
        bool,
        typer.Option("--uint8", help="Take RGB bytes (N, S, S, 3), and normalise inside the file."),
    ] = False,
    prototypes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|model",
            help=(
                "Also give each image's prototypes: of a file from `pauc cluster`, or `model` "
                "for the model's own."
            ),
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also give each image's class, by a probe from `pauc probe`."
        ),
    ] = None,
    image_size: options.ImageSize = None,
    dynamic_size: Annotated[
        bool,
        typer.Option(
            "--dynamic-size", help="Leave height and width free, where the network allows it."
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as one ONNX or torch.export file, once it gives what the model gives."""
    from pauc_hub.exporting.export import export as export_model

    exported = export_model(
        model,
        onnx=onnx,
        torch_export=torch_export,
        images=images,
        precision=precision,
        space=space,
        uint8=uint8,
        prototypes=prototypes,
        probe=probe,
        image_size=image_size,
        dynamic_size=dynamic_size,
        overwrite=overwrite,
        quiet=quiet,
    )
    for warning in () if quiet else _warnings_of(exported):
        print(escaped(f"warning: {warning}"), file=sys.stderr)
    if as_json:
        print(json.dumps(asdict(exported) | {"output": str(exported.output)}))
    elif not quiet:
        for line in lines(exported):
            print(escaped(line))


def _warnings_of(exported: "Exported") -> Iterator[str]:
    """What people should know of the comparison, a line each."""
    if exported.unreadable:
        yield (
            f"{exported.unreadable} of the images in {exported.images} could not be read; left out"
        )
    if not exported.images:
        yield (
            f"compared on {exported.parity.images} made pictures, which resemble no photographs; "
            "--images FOLDER compares on yours"
        )


def lines(exported: "Exported") -> Iterator[str]:
    """What was written, what it takes and gives, and how near it is."""
    takes = exported.input
    shape = ", ".join(str(side) for side in takes["shape"])
    yield (
        f"{exported.output}: {exported.model} in {exported.precision}, "
        f"{exported.bytes / 1e6:.1f} MB"
    )
    yield f"  takes {takes['name']} ({shape}) {takes['type']}: {takes['values']}"
    yield f"  gives {', '.join(_given(name, sides) for name, sides in exported.outputs.items())}"
    parity = exported.parity
    batches = ", ".join(str(batch) for batch in parity.batches)
    # cut off, not rounded: 1.0000000 would claim too much
    cosine = f"{int(parity.least_cosine * 1e7) / 1e7:.7f}"
    yield (
        f"  {parity.images} images at batches of {batches}: least cosine {cosine} to the "
        "model's embedding"
    )
    for found in (*_neighbours(exported), *_answers(exported)):
        yield f"  {found}"


def _given(name: str, sides: list[int]) -> str:
    return f"{name} ({', '.join(str(side) for side in ['batch', *sides])})"


def _neighbours(exported: "Exported") -> Iterator[str]:
    if (share := exported.parity.knn_agreement) is not None:
        yield f"nearest images: {share:.1%} the same"


def _answers(exported: "Exported") -> Iterator[str]:
    parity = exported.parity
    for name, share in parity.choices.items():
        yield f"{name}: the same for {share:.1%}"
    for name, difference in parity.values.items():
        yield f"{name}: at most {difference:.1g} apart"
