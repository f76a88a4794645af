"""What `pauc train` prints: the settings that were chosen, what a run would take, and what it left."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pauc_hub.cli.failures import SOME_UNREADABLE

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.processes import Ranks
    from pauc_hub.training.auto import Choice
    from pauc_hub.training.config import Config
    from pauc_hub.training.rehearsal import Estimate


def show_settings(config: "Config", choices: "list[Choice]", images: int, *, quiet: bool) -> None:
    """To stderr: what nobody wrote down, each with its reason; and what becomes of a learning rate that was given."""
    from pauc_hub.training.auto import scaling

    if quiet:
        return
    head = f"{images} images; chosen for them and this machine, where nothing else was asked for:"
    lines = [f"{choice.name} {choice.value}  ({choice.reason})" for choice in choices]
    print("\n  ".join([head, *lines]), file=sys.stderr)
    if all(choice.name != "lr" for choice in choices):
        print(f"lr {config.lr:g}  ({scaling(config)})", file=sys.stderr)


def show_estimate(estimate: "Estimate", config: "Config", choices: "list[Choice]", *, as_json: bool) -> None:
    """To stdout: what a run would take."""
    if as_json:
        reasons = {choice.name: choice.reason for choice in choices}
        print(json.dumps({"settings": config.to_json(), "reasons": reasons, "estimate": asdict(estimate)}))
        return
    epoch = [f"{span(estimate.learning_seconds)} of learning", f"{span(estimate.saving_seconds)} of saving"]
    if config.objective != "infonce":
        epoch.insert(1, f"{span(estimate.estep_seconds)} of E-step")
    print(f"time: about {span(estimate.seconds)} for {config.epochs} epochs, each {', '.join(epoch)}")
    if estimate.gpu_memory_gib is None:
        print(f"memory: about {estimate.memory_gib:.1f} of this machine's {estimate.available_gib:.1f} GiB")
    else:
        gpu = f"{estimate.gpu_memory_gib:.1f} of the GPU's {estimate.available_gib:.1f} GiB"
        print(f"memory: about {gpu}, and {estimate.memory_gib:.1f} GiB of the machine's")


def show_result(model: Path, run: Path, ranks: "Ranks", *, as_json: bool, quiet: bool) -> None:
    """To stdout; leaves with exit code 3 where images could not be read, which torchrun would take for a crash."""
    if ranks.rank > 0:
        return
    from pauc_hub.models.folder import open_folder
    from pauc_hub.training.run.run_folder import UNREADABLE

    seen = open_folder(model).facts["data"]
    if seen["unreadable"] and not quiet:
        unreadable = f"{seen['unreadable']} of {seen['images']} images could not be read"
        print(f"warning: {unreadable}; listed in {run / UNREADABLE}", file=sys.stderr)
    if as_json:
        counts = {"images": seen["images"], "unreadable": seen["unreadable"]}
        print(json.dumps({"model": str(model), "run": str(run)} | counts))
    elif not quiet:
        print(f"{model}: trained. Embed with it: {shlex.join(['pauc', 'embed', 'IMAGES', '-m', str(model)])}")
    raise typer.Exit(SOME_UNREADABLE if seen["unreadable"] and not ranks.several else 0)


def span(seconds: float) -> str:
    """`0.25 s`, `3 min 20 s`, `2 h 5 min`, `3 days 4 h`: two units at most."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    days, rest = divmod(round(seconds), 86400)
    numbers = (days, rest // 3600, rest // 60 % 60, rest % 60)
    units = ("day" if days == 1 else "days", "h", "min", "s")
    first = next(place for place, number in enumerate(numbers) if number)
    told = list(zip(numbers, units, strict=True))[first : first + 2]
    return " ".join(f"{number} {unit}" for number, unit in told if number)
