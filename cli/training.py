"""What `pauc train` prints: the settings that were chosen, what a run would take, and what it left."""

import json
import shlex
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pauc_hub.cli.failures import SOME_UNREADABLE

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.training.auto import Choice
    from pauc_hub.training.config import Config
    from pauc_hub.training.rehearsal import Estimate


def show_settings(choices: "list[Choice]", config: "Config", images: int) -> None:
    """To stderr: what was chosen, each with its reason."""
    clusters = ", ".join(map(str, config.clusters or ()))
    print(f"{images} images; chosen for them:", file=sys.stderr)
    for choice in choices:
        print(f"  {choice.name} {choice.value}  ({choice.reason})", file=sys.stderr)
    print(f"  clusters {clusters}; queue {config.queue}; learning rate {config.peak_lr:g}", file=sys.stderr)


def show_estimate(estimate: "Estimate", config: "Config", *, as_json: bool) -> None:
    """To stdout: what a run would take."""
    if as_json:
        print(json.dumps({"settings": config.to_json(), "estimate": asdict(estimate)}))
        return
    epoch = f"{_span(estimate.mstep_seconds)} of learning and {_span(estimate.estep_seconds)} of E-step an epoch"
    print(f"about {_span(estimate.seconds)} for {config.epochs} epochs: {epoch}, {estimate.step_seconds:.2f} s a step")
    gpu = "" if estimate.gpu_memory_gib is None else f", {estimate.gpu_memory_gib:.1f} GiB on the GPU"
    print(f"about {estimate.memory_gib:.1f} GiB of memory{gpu}")


def show_result(model: Path, run: Path, *, as_json: bool, quiet: bool) -> None:
    """To stdout; leaves with exit code 3 where images could not be read."""
    from pauc_hub.folder import open_folder
    from pauc_hub.training.record import UNREADABLE

    seen = open_folder(model).facts["data"]
    if seen["unreadable"] and not quiet:
        unreadable = f"{seen['unreadable']} of {seen['images']} images could not be read"
        print(f"warning: {unreadable}; listed in {run / UNREADABLE}", file=sys.stderr)
    if as_json:
        counts = {"images": seen["images"], "unreadable": seen["unreadable"]}
        print(json.dumps({"model": str(model), "run": str(run)} | counts))
    elif not quiet:
        print(f"{model}: trained. Embed with it: {shlex.join(['pauc', 'embed', 'IMAGES', '-m', str(model)])}")
    raise typer.Exit(SOME_UNREADABLE if seen["unreadable"] else 0)


def _span(seconds: float) -> str:
    """`1 day, 2:03:04` and the like."""
    return str(timedelta(seconds=round(seconds)))
