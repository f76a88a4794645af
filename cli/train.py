"""`pauc train`: pretrain a backbone on unlabelled images."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.training import show_estimate, show_result, show_settings
from pauc_hub.errors import UsageError

BY_RECIPE = "the recipe's"


def train(
    images: Annotated[Path, typer.Argument(help="Folder of images (any nesting), tar file, or folder of tar files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    recipe: Annotated[str, typer.Option(help="Settings by name; own_images looks at the images.")] = "own_images",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, which the options below replace.")] = None,
    objective: Annotated[str | None, typer.Option(show_default=BY_RECIPE, help="infonce, protonce or pauc.")] = None,
    architecture: Annotated[str | None, typer.Option(show_default=BY_RECIPE, help="A backbone of timm's.")] = None,
    size: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Side of the views, pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Passes over all images.")] = None,
    batch_size: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(show_default=BY_RECIPE, help="Peak rate for a batch of 256.")] = None,
    clusters: Annotated[str | None, typer.Option(help="Prototypes of each clustering, e.g. 250,500,1000.")] = None,
    precision: Annotated[str | None, typer.Option(show_default="auto", help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(show_default="0", help="Of everything drawn.")] = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try a minute, tell time and memory.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint; the settings stay.")] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Pretrain a backbone on unlabelled images, and write it as a model folder."""
    typed: dict[str, object] = {"objective": objective, "architecture": architecture, "size": size, "epochs": epochs}
    typed |= {"batch_size": batch_size, "lr": lr, "clusters": options.numbers(clusters), "precision": precision}
    given = {name: value for name, value in (typed | {"seed": seed}).items() if value is not None}
    if resume and (given or config or overwrite or dry_run or recipe != "own_images"):
        raise UsageError("--resume goes on with the run's own settings: beside it give -o, --device, --workers alone.")
    from pauc_hub.device import choose_device, keep_freed_memory  # what follows takes seconds to import
    from pauc_hub.training.config import read_config
    from pauc_hub.training.data import open_source
    from pauc_hub.training.loop import train as run_training
    from pauc_hub.training.recipes import settle
    from pauc_hub.training.rehearsal import rehearse

    keep_freed_memory()
    source, where, settings = open_source(images), choose_device(device), None
    if not resume:
        file = read_config(config) if config else {}
        settings, choices = settle(source, where.type, file | given, recipe, str(config or "the settings"))
        if choices and not (quiet or as_json):
            show_settings(choices, settings, len(source))
        if dry_run:
            show_estimate(rehearse(source, settings, where, workers), settings, as_json=as_json)
            return
    model = run_training(
        source,
        output,
        settings,
        device=device,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        command=shlex.join(["pauc", *sys.argv[1:]]),
    )
    show_result(model, output, as_json=as_json, quiet=quiet)
