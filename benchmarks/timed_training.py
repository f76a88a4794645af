r"""Train the recipes in the minutes that there are: Ctrl-C for each when time is over, and on from
there the next time.

    python benchmarks/timed_training.py --minutes 60 -o runs \
        --cifar cifar10-train.parquet --tiny tiny-imagenet-200

The recipes are trained one after the other, the finished ones left alone. The same command, given
again, goes on with the one that was stopped. More options go to `pauc train` as they are. Ends with
0 when the time is over or all are finished, and with pauc's code where it failed.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from labelled_splits import training_images

from pauc_hub.training.run.checkpoint_files import standing
from pauc_hub.training.run.run_folder import MODEL

RECIPES = {
    "cifar10_infonce": "cifar",
    "cifar10_protonce": "cifar",
    "cifar10_pauc": "cifar",
    "tiny_imagenet": "tiny",
}
# pauc's exit codes
INTERRUPTED, SOME_UNREADABLE = 130, 3
SECONDS_TO_SAVE = 600


def command_for(
    recipe: str, images: str, run: Path, device: str, more: Sequence[str]
) -> list[str] | None:
    """`pauc train`, from the beginning or on from where the run was stopped; None where it is
    finished.
    """
    pauc = [
        sys.executable,
        "-m",
        "pauc_hub.cli",
        "train",
        images,
        "-o",
        str(run),
        "--device",
        device,
    ]
    if finished(run):
        return None
    if standing(run):
        return [*pauc, "--resume"]
    # What was stopped before its first checkpoint begins anew.
    return [*pauc, "--recipe", recipe, "--overwrite", *more]


def finished(run: Path) -> bool:
    """Whether its model is of all epochs."""
    facts = run / MODEL / "facts.json"
    return facts.exists() and not json.loads(facts.read_text(encoding="utf-8")).get("unfinished")


def until(deadline: float, command: Sequence[str]) -> int:
    """The exit code of a command that gets a SIGINT at the deadline (of time.monotonic()), unless
    it ends before.

    Raises:
        SystemExit: it did not end in SECONDS_TO_SAVE after that; it was killed.
    """
    # in a session of its own: a Ctrl-C at the terminal reaches it through this process alone, once
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGINT)
        try:
            return process.wait(SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(
                f"error: the run did not save itself in {SECONDS_TO_SAVE} s."
            ) from None


def train_all(
    places: dict[str, Path], runs: Path, minutes: float, device: str, more: Sequence[str]
) -> int:
    """Train each recipe for whose data a place is given; returns the exit code."""
    deadline = time.monotonic() + 60 * minutes
    for recipe, data in RECIPES.items():
        if data not in places:
            continue
        command = command_for(recipe, training_images(places[data]), runs / recipe, device, more)
        if command is None:
            print(f"{recipe}: finished", file=sys.stderr)
            continue
        if time.monotonic() >= deadline:
            break
        code = until(deadline, command)
        if code == INTERRUPTED:
            print(f"{recipe}: stopped; the same command goes on with it", file=sys.stderr)
            return 0
        if code not in (0, SOME_UNREADABLE):
            return code
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10's training split as Parquet")
    parser.add_argument("--tiny", type=Path, help="Tiny ImageNet: its folder, or Parquet")
    parser.add_argument("--device", default="auto")
    arguments, more = parser.parse_known_args()
    places = {name: place for name in ("cifar", "tiny") if (place := getattr(arguments, name))}
    if not places:
        parser.error("give --cifar or --tiny, or both")
    raise SystemExit(train_all(places, arguments.output, arguments.minutes, arguments.device, more))


if __name__ == "__main__":
    main()
