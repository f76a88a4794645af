"""`pauc train`: pretrain a backbone on unlabelled images."""

import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pauc_hub.cli import options
from pauc_hub.cli.embed import told_passed_over
from pauc_hub.cli.estimate import show_estimate
from pauc_hub.cli.failures import SOME_UNREADABLE, said_once_a_machine
from pauc_hub.cli.flags import flags_of, with_flags
from pauc_hub.cli.settings import list_settings, show_settings, told_kept_out, typed_settings
from pauc_hub.errors import UsageError
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # they take seconds to import
    import torch

    from pauc_hub.processes import Ranks
    from pauc_hub.sources.by_index import ImageSource
    from pauc_hub.training.auto import Choice
    from pauc_hub.training.config import Config
    from pauc_hub.training.monitoring.finding import Finding
    from pauc_hub.training.monitoring.labelled import LabelledImages

BY_RECIPE = "the recipe's"


@said_once_a_machine
def train(
    images: Annotated[
        str, typer.Argument(help="Folder, tar or Parquet file, list or pattern of these, or URL.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the run; not needed with --dry-run."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            show_default="own_images", help="Named settings; docs/settings.md lists the recipes."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings; the options below take precedence."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(show_default=BY_RECIPE, help="infonce, protonce or pauc."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(show_default=BY_RECIPE, help="Backbone: any timm network that pools."),
    ] = None,
    weights_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from the weights of this model, as embed -m takes it.",
        ),
    ] = None,
    freeze: Annotated[
        int | None,
        typer.Option(
            show_default="all but the last quarter",
            help="With --from: how many stages or blocks, from the first, keep their weights.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(show_default=BY_RECIPE, help="Side of the square views, in pixels."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(show_default=BY_RECIPE, help="Passes over all images."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(show_default=BY_RECIPE, help="Batch size."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(show_default=BY_RECIPE, help="Peak learning rate for a batch size of 256."),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option(
            show_default=BY_RECIPE, help="Prototypes of each clustering, e.g. 250,500,1000."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(show_default="auto", help="Compute precision: auto, fp32 or bf16."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(show_default="0", help="Random seed."),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(help="Folder with one subfolder for each class: kNN accuracy while training."),
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option(help="Log to this Weights & Biases project (needs the extra `wandb`)."),
    ] = None,
    value_range: options.ValueRange = None,
    bands: options.Bands = None,
    device: options.TrainingDevice = "auto",
    workers: options.Workers = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting, e.g. --set temperature=0.1; may be repeated.",
        ),
    ] = None,
    _list_settings: Annotated[
        bool,
        typer.Option(
            "--list-settings",
            is_eager=True,
            callback=list_settings,
            help="List all settings, and exit.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Train for about a minute and estimate time and memory; write nothing.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue from the last checkpoint; with --epochs, for longer."
        ),
    ] = False,
    export: Annotated[
        bool,
        typer.Option(
            "--export",
            help="Write the model of an unfinished run from its last checkpoint; do not train.",
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pretrain a backbone on unlabelled images, and write it as a model folder.

    `pauc train --list-settings` explains every setting; --set gives any of them.
    """
    typed: dict[str, object] = {
        "objective": objective,
        "architecture": architecture,
        "weights_from": weights_from,
        "freeze": freeze,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "clusters": options.numbers(clusters),
        "precision": precision,
        "seed": seed,
        "labelled": labelled,
    }
    given = typed_settings(typed, chosen or [])
    longer = {} if epochs is None else {"epochs": epochs}
    reading = options.reading_of(value_range, bands)
    others = bool(config or overwrite or dry_run or recipe or value_range or bands)
    if resume and (given != longer or others or export):
        raise UsageError(
            "--resume goes on with the run's own settings: beside it give -o, --epochs, "
            "--device, --workers alone."
        )
    if export and (given or others):
        raise UsageError(
            "--export takes the run as it is: beside it give -o, --device, --workers alone."
        )
    if output is None and not dry_run:
        raise UsageError(
            "-o is missing: the folder that the run goes into. Only --dry-run needs none."
        )
    # What follows takes seconds to import.
    from pauc_hub.device import keep_freed_memory
    from pauc_hub.processes import Ranks
    from pauc_hub.sources.by_index import open_by_index
    from pauc_hub.training.loop import train as run_training
    from pauc_hub.training.machine import device_to_train_on
    from pauc_hub.training.run.run_folder import refuse_standing

    keep_freed_memory()
    ranks = Ranks.from_environment()
    run = output or Path("run")
    if not (resume or export or dry_run or overwrite or ranks.several):
        refuse_standing(run)
    silent = quiet or ranks.rank > 0
    source = open_by_index(images, reading, quiet=silent)
    where = device_to_train_on(ranks.device(device))
    plan = None if resume or export else _plan(source, where, given, config, recipe)
    announce = partial(_announce, plan, source, silent)
    if dry_run and plan:
        told = run_training(
            source,
            None,
            plan.settings,
            dry_run=True,
            device=device,
            workers=workers,
            wandb=wandb,
            quiet=quiet,
            announce=announce,
        )
        show_estimate(told.estimate, plan.settings, plan.choices, as_json=as_json)
        return
    model = run_training(
        source,
        run,
        plan and plan.settings,
        device=device,
        workers=workers,
        wandb=wandb,
        resume=resume,
        epochs=epochs if resume else None,
        export=export,
        overwrite=overwrite,
        quiet=quiet,
        command=shlex.join(["pauc", *sys.argv[1:]]),
        announce=announce,
    )
    show_result(model, run, ranks, as_json=as_json, quiet=quiet)


class RunPlan(NamedTuple):
    """What a new run will do.

    Attributes:
        choices: settings that nobody wrote down, each with its reason.
        idle: settings that somebody wrote down and that have no effect, a line each.
    """

    settings: "Config"
    choices: "list[Choice]"
    idle: list[str]


def _plan(
    source: "ImageSource",
    where: "torch.device",
    given: dict[str, object],
    config: Path | None,
    recipe: str | None,
) -> RunPlan:
    from pauc_hub.training.recipes import OWN_IMAGES, settle
    from pauc_hub.training.settings import read_config, without_effect

    given = (read_config(config) if config else {}) | given
    settings, choices = settle(
        source, where, given, recipe or OWN_IMAGES, str(config or "the settings")
    )
    return RunPlan(settings, choices, without_effect(settings, given))


def _announce(
    plan: RunPlan | None,
    source: "ImageSource",
    silent: bool,
    settled: "Config",
    watched: "LabelledImages | None",
) -> None:
    """To stderr: what is about to be done, once all has been checked; a resumed run has no plan of
    its own.
    """
    if silent:
        return
    if plan is not None:
        if source.passed_over:
            print(escaped(f"warning: {told_passed_over(source.passed_over)}"), file=sys.stderr)
        show_settings(plan.settings, plan.choices, len(source))
        print(end=told_kept_out(settled, len(source)), file=sys.stderr)
        for line in plan.idle:
            print(f"warning: {with_flags(line, flags_of(train))}", file=sys.stderr)
    if watched is not None:
        print("\n".join(map(escaped, watched.described())), file=sys.stderr)


def show_result(model: Path, run: Path, ranks: "Ranks", *, as_json: bool, quiet: bool) -> None:
    """To stdout; leaves with exit code 3 where images could not be read, which torchrun would take
    for a crash.
    """
    if ranks.rank > 0:
        return
    from pauc_hub.models.folder import open_folder
    from pauc_hub.training.monitoring.before_after import made_worse
    from pauc_hub.training.monitoring.doctor import judge
    from pauc_hub.training.monitoring.history import read_history

    facts = open_folder(model).facts
    seen = facts["data"]
    unfinished = facts.get("unfinished")
    compared = facts.get("before_after", {})
    verdict, findings = judge(read_history(run))
    if not quiet:
        _warn(run, facts, findings)
    if as_json:
        shown = {
            "model": str(model),
            "run": str(run),
            "images": seen["images"],
            "unreadable": seen["unreadable"],
            "finished": not unfinished,
            "verdict": verdict,
        }
        if compared:
            shown["before_after"] = compared
        print(json.dumps(shown))
    elif not quiet:
        again = shlex.join(["pauc", "embed", "IMAGES", "-m", str(model)])
        done = "trained"
        if unfinished:
            done = f"made after {facts['epochs']} of {unfinished['epochs']} epochs"
        if made_worse(compared):
            done += f", and by its labels it made {compared['from']} worse"
        print(escaped(f"{model}: {done}; verdict: {verdict}. Embed with it: {again}"))
    raise typer.Exit(SOME_UNREADABLE if seen["unreadable"] and not ranks.several else 0)


def _warn(run: Path, facts: dict[str, Any], findings: "Sequence[Finding]") -> None:
    """To stderr: images that could not be read, what is wrong with the run, and how the model
    compares with the one that it started from.
    """
    from pauc_hub.training.monitoring.before_after import told
    from pauc_hub.training.run.run_folder import UNREADABLE

    seen = facts["data"]
    if seen["unreadable"]:
        unreadable = f"{seen['unreadable']} of {seen['images']} images could not be read"
        print(escaped(f"warning: {unreadable}; listed in {run / UNREADABLE}"), file=sys.stderr)
    for finding in findings:
        change = with_flags(finding.change, flags_of(train))
        print(f"warning: {finding.name}: {change}", file=sys.stderr)
    for line in told(facts.get("before_after", {})):
        print(line, file=sys.stderr)
