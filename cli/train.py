"""`pauc train`: pretrain a backbone on unlabelled images."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.errors import UsageError


def train(
    images: Annotated[Path, typer.Argument(help="Folder of images (any nesting), tar file, or folder of tar files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, which the options below replace.")] = None,
    objective: Annotated[str | None, typer.Option(show_default="pauc", help="infonce, protonce or pauc.")] = None,
    architecture: Annotated[str | None, typer.Option(show_default="resnet18", help="A backbone of timm's.")] = None,
    size: Annotated[int | None, typer.Option(show_default="224", help="Side of the square views, pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(show_default="100", help="Passes over all images.")] = None,
    batch_size: Annotated[int | None, typer.Option(show_default="256", help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(show_default="0.06", help="Peak learning rate at batch size 256.")] = None,
    clusters: Annotated[str | None, typer.Option(help="Prototypes of each clustering, e.g. 250,500,1000.")] = None,
    precision: Annotated[str | None, typer.Option(show_default="auto", help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(show_default="0", help="Of everything drawn.")] = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint; the settings stay.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pretrain a backbone on unlabelled images, and write it as a model folder."""
    typed: dict[str, object] = {"objective": objective, "architecture": architecture, "size": size, "epochs": epochs}
    typed |= {"batch_size": batch_size, "lr": lr, "clusters": _numbers(clusters), "precision": precision, "seed": seed}
    given = {name: value for name, value in typed.items() if value is not None}
    if resume and (given or config or overwrite):
        raise UsageError("--resume goes on with the run's own settings: beside it give -o, --device, --workers alone.")
    from pauc_hub.device import keep_freed_memory  # what follows takes seconds to import
    from pauc_hub.folder import open_folder
    from pauc_hub.training import record
    from pauc_hub.training.config import from_mapping, read_config
    from pauc_hub.training.loop import train as run_training

    keep_freed_memory()
    file = read_config(config) if config else {}
    model = run_training(
        images,
        output,
        from_mapping(file | given, str(config or "the settings")),
        device=device,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        command=shlex.join(["pauc", *sys.argv[1:]]),
    )
    seen = open_folder(model).facts["data"]
    if seen["unreadable"] and not quiet:
        unreadable = f"{seen['unreadable']} of {seen['images']} images could not be read"
        print(f"warning: {unreadable}; listed in {output / record.UNREADABLE}", file=sys.stderr)
    if as_json:
        counts = {"images": seen["images"], "unreadable": seen["unreadable"]}
        print(json.dumps({"model": str(model), "run": str(output)} | counts))
    elif not quiet:
        print(f"{model}: trained. Embed with it: {shlex.join(['pauc', 'embed', 'IMAGES', '-m', str(model)])}")
    raise typer.Exit(SOME_UNREADABLE if seen["unreadable"] else 0)


def _numbers(text: str | None) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",")] if text is not None else None
    except ValueError:
        raise UsageError(f"--clusters '{text}' is no list of numbers, such as 250,500,1000.") from None
