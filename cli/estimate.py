"""What a run would take, in time and memory, as `pauc train --dry-run` prints it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.training.auto import Choice
    from pauc_hub.training.config import Config
    from pauc_hub.training.rehearsal import Estimate


def show_estimate(
    estimate: "Estimate", config: "Config", choices: "list[Choice]", *, as_json: bool
) -> None:
    """To stdout: what a run would take."""
    if as_json:
        reasons = {choice.name: choice.reason for choice in choices}
        shown = {"settings": config.to_json(), "reasons": reasons, "estimate": asdict(estimate)}
        print(json.dumps(shown))
        return
    epoch = [f"{span(estimate.learning_seconds)} of learning"]
    if config.objective != "infonce":
        epoch.append(f"{span(estimate.estep_seconds)} of E-step")
    epoch.append(f"{span(estimate.saving_seconds)} of saving")
    total = span(estimate.seconds)
    print(f"time: about {total} for {config.epochs} epochs, each {', '.join(epoch)}")
    if estimate.gpu_memory_gib is None:
        print(
            f"memory: about {estimate.memory_gib:.1f} of this machine's "
            f"{estimate.available_gib:.1f} GiB"
        )
    else:
        gpu = f"{estimate.gpu_memory_gib:.1f} of the GPU's {estimate.available_gib:.1f} GiB"
        print(f"memory: about {gpu}, and {estimate.memory_gib:.1f} GiB of the machine's")


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
