"""`pauc train`: pretrain a backbone on unlabelled images."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import said_once_a_machine
from pauc_hub.cli.training import show_estimate, show_result, show_settings
from pauc_hub.errors import UsageError

BY_RECIPE = "the recipe's"


@said_once_a_machine
def train(
    images: Annotated[str, typer.Argument(help="Folder of images, tar or Parquet files, a list; or a URL of such.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run, but for --dry-run.")] = None,
    recipe: Annotated[
        str | None, typer.Option(show_default="own_images", help="Settings by name: docs/training.md lists them.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, which the options below replace.")] = None,
    objective: Annotated[str | None, typer.Option(show_default=BY_RECIPE, help="infonce, protonce or pauc.")] = None,
    architecture: Annotated[str | None, typer.Option(show_default=BY_RECIPE, help="A backbone of timm's.")] = None,
    size: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Side of the views, pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Passes over all images.")] = None,
    batch_size: Annotated[int | None, typer.Option(show_default=BY_RECIPE, help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(show_default=BY_RECIPE, help="Peak rate for a batch of 256.")] = None,
    clusters: Annotated[str | None, typer.Option(show_default=BY_RECIPE, help="Prototypes, e.g. 250,500,1000.")] = None,
    precision: Annotated[str | None, typer.Option(show_default="auto", help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(show_default="0", help="Of everything drawn.")] = None,
    labelled: Annotated[str | None, typer.Option(help="Folder, one subfolder a class: kNN while training.")] = None,
    wandb: Annotated[str | None, typer.Option(help="Project there to tell; needs the extra `wandb`.")] = None,
    device: options.TrainingDevice = "auto",
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
    given = {name: value for name, value in (typed | {"seed": seed, "labelled": labelled}).items() if value is not None}
    if resume and (given or config or overwrite or dry_run or recipe):
        raise UsageError("--resume goes on with the run's own settings: beside it give -o, --device, --workers alone.")
    if output is None and not dry_run:
        raise UsageError("-o is missing: the folder that the run goes into. Only --dry-run needs none.")
    from pauc_hub.device import keep_freed_memory  # what follows takes seconds to import
    from pauc_hub.processes import Ranks
    from pauc_hub.training.config import read_config
    from pauc_hub.training.data import open_source
    from pauc_hub.training.loop import train as run_training
    from pauc_hub.training.machine import device_to_train_on
    from pauc_hub.training.recipes import OWN_IMAGES, settle
    from pauc_hub.training.rehearsal import rehearse
    from pauc_hub.training.run.run_folder import refuse_standing

    keep_freed_memory()
    ranks, run, settings = Ranks.from_environment(), output or Path("run"), None
    if not (resume or dry_run or overwrite or ranks.several):
        refuse_standing(run)
    source = open_source(images, quiet=quiet or ranks.rank > 0)
    if not resume:
        where, given = device_to_train_on(ranks.device(device)), (read_config(config) if config else {}) | given
        settings, choices = settle(source, where, given, recipe or OWN_IMAGES, str(config or "the settings"))
        show_settings(settings, choices, len(source), quiet=quiet or ranks.rank > 0)
        if dry_run:
            show_estimate(rehearse(source, settings, where, workers, quiet=quiet), settings, choices, as_json=as_json)
            return
    model = run_training(
        source, run, settings, device=device, workers=workers, wandb=wandb, resume=resume, overwrite=overwrite,
        quiet=quiet, command=shlex.join(["pauc", *sys.argv[1:]]),
    )  # fmt: skip
    show_result(model, run, ranks, as_json=as_json, quiet=quiet)
