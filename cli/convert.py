"""`pauc convert`: another project's checkpoint as a model folder."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.errors import UsageError

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.hub.convert.convert import Converted


def convert(
    checkpoint: Annotated[
        str, typer.Argument(help="A file, or a name such as pcl-v2, which is downloaded.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    format: Annotated[  # noqa: A002 -- the flag's name
        str,
        typer.Option(
            help=(
                "auto, moco (PCL, HCSC too), moco-v3, swav, dino, solo-learn, lightly, "
                "torchvision, timm."
            )
        ),
    ] = "auto",
    architecture: Annotated[
        str | None,
        typer.Option(help="timm's name of the network (default: detected, for ResNets and ViTs)."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, such as MIT.")
    ] = None,
    image_size: Annotated[
        int, typer.Option(min=16, help="Side of the images it was trained on, in pixels.")
    ] = 224,
    mean: Annotated[str, typer.Option(help="Mean of each channel.")] = "0.485,0.456,0.406",
    std: Annotated[
        str, typer.Option(help="Standard deviation of each channel.")
    ] = "0.229,0.224,0.225",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn another project's checkpoint into a model folder."""
    from pauc_hub.hub.convert.convert import convert as convert_checkpoint

    converted = convert_checkpoint(
        checkpoint,
        output,
        format=format,
        architecture=architecture,
        licence=licence,
        image_size=image_size,
        mean=_three(mean, "--mean"),
        std=_three(std, "--std"),
        overwrite=overwrite,
        quiet=quiet,
        command=shlex.join(["pauc", *sys.argv[1:]]),
    )
    if converted.strangers and not quiet:
        some = ", ".join(converted.strangers[:5])
        more = ", …" if len(converted.strangers) > 5 else ""
        print(
            f"warning: {len(converted.strangers)} unknown keys were left out: {some}{more}",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps(asdict(converted) | {"output": str(converted.output)}))
    elif not quiet:
        print(_sentence(converted))


def _three(text: str, flag: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise UsageError(f"{flag} '{text}' is not three numbers, such as 0.485,0.456,0.406.")
    return numbers


def _sentence(converted: "Converted") -> str:
    parts = [f"{converted.architecture}, {converted.width} features"]
    parts += ["projector"] if converted.projector else []
    parts += [f"{converted.prototypes} prototypes"] if converted.prototypes else []
    return (
        f"{converted.output}: {', '.join(parts)}, from a checkpoint of format {converted.format} "
        f"(sha256 {converted.sha256}); {len(converted.dropped)} tensors that a backbone does "
        "not need left out"
    )
