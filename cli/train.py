"""`pauc train`: pretrain a backbone on unlabelled images."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pauc_hub.errors import UsageError


def train(
    images: Annotated[Path, typer.Argument(help="Folder of images (any nesting), tar file, or folder of tar files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; the options below go before it.")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="infonce, protonce or pauc [default: pauc].")] = None,
    architecture: Annotated[str | None, typer.Option(help="timm's name of the backbone [default: resnet18].")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square views, pixels [default: 224].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over all images [default: 100].")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step [default: 256].")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate at batch size 256 [default: 0.06].")] = None,
    clusters: Annotated[str | None, typer.Option(help="Prototypes of each clustering, e.g. 250,500,1000.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16 [default: auto].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn [default: 0].")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's checkpoint, with its settings.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that stands there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Pretrain a backbone on unlabelled images, and write it as a model folder."""
    chosen = {
        "objective": objective,
        "architecture": architecture,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "clusters": None if clusters is None else _numbers(clusters),
        "precision": precision,
        "seed": seed,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    from pauc_hub.device import keep_freed_memory
    from pauc_hub.training import record
    from pauc_hub.training.config import from_mapping, read_config
    from pauc_hub.training.loop import train as run_training

    if resume and (given or config or overwrite):
        raise UsageError(
            "--resume goes on with the run's own settings: leave out every other option but -o, --device, --workers."
        )
    keep_freed_memory()
    settings: dict[str, Any] = {} if config is None else read_config(config)
    model = run_training(
        images,
        output,
        record.saved_config(output) if resume else from_mapping(settings | given, str(config or "the settings")),
        device=device,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        quiet=quiet,
        command=shlex.join(["pauc", *sys.argv[1:]]),
    )
    print(
        json.dumps({"model": str(model), "run": str(output)})
        if as_json
        else f"{model}: trained; use it with `-m {model}`"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"--clusters takes numbers with commas between, such as 250,500,1000, not '{text}'."
        ) from error
