"""`pauc doctor`: what is wrong with a training run, and what to change."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.flags import flags_of, with_flags
from pauc_hub.cli.train import train
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # it takes seconds to import
    from pauc_hub.training.monitoring.doctor import Diagnosis


def doctor(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run; it may be training, stopped or finished.")
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Diagnose a training run: collapse, coagulation, divergence, wasted time; say what to
    change.
    """
    from pauc_hub.training.monitoring.doctor import examine

    found = examine(run)
    if as_json:
        print(
            json.dumps(
                {
                    "run": str(run),
                    **asdict(found),
                    "curves": str(found.curves) if found.curves else None,
                }
            )
        )
        return
    if found.undrawn and not quiet:
        print(escaped(f"note: no curves: {found.undrawn}"), file=sys.stderr)
    print("\n".join(map(escaped, _told(run, found))))


def _told(run: Path, found: "Diagnosis") -> list[str]:
    state = "finished" if found.finished else f"{found.epochs_done} of {found.epochs} epochs done"
    flags = flags_of(train)
    lines = [f"{run}: {found.verdict} ({state})"]
    for finding in found.findings:
        shown = f"; panel '{finding.panel}' of {found.curves}" if found.curves else ""
        lines += [f"{finding.name}: {finding.said}"]
        lines += [
            f"  seen:   {finding.evidence}{shown}",
            f"  change: {with_flags(finding.change, flags)}",
        ]
    lines += [f"not judged: {each}" for each in found.unjudged]
    return [*lines, f"curves: {found.curves}"] if found.curves else lines
