"""What a run's own numbers say about it, also while it goes on: what is wrong, what shows it, what to change."""

from dataclasses import dataclass
from pathlib import Path

from pauc_hub.training.monitoring.checks import findings, unjudged
from pauc_hub.training.monitoring.curves import drawn
from pauc_hub.training.monitoring.finding import Finding
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.monitoring.learning import learning_is_judged
from pauc_hub.training.run.run_folder import CURVES, MODEL


@dataclass(frozen=True)
class Diagnosis:
    """Of one run.

    Attributes:
        epochs_done: of `epochs`.
        finished: whether its model folder is there; a run that goes on looks like one that was stopped.
        findings: what is wrong, the worst first.
        verdict: the findings' names, or `healthy`, or `too early to tell`.
        unjudged: what there is too little to judge by, and what it takes.
        numbers: the last epoch's line.
        curves: the picture, unless it could not be drawn, for the reason in `undrawn`.
    """

    epochs_done: int
    epochs: int
    finished: bool
    verdict: str
    findings: list[Finding]
    unjudged: list[str]
    numbers: dict[str, float]
    curves: Path | None
    undrawn: str


def examine(run: Path) -> Diagnosis:
    """Read the run, judge it, and draw its curves into its folder.

    Raises:
        UsageError: there is no run.
    """
    history = read_history(run)
    found, (curves, undrawn) = findings(history), drawn(history, run / CURVES)
    untroubled = "healthy" if learning_is_judged(history) else "too early to tell"
    return Diagnosis(
        epochs_done=history.epochs_done,
        epochs=history.config.epochs,
        finished=(run / MODEL).exists(),
        verdict=", ".join(finding.name for finding in found) or untroubled,
        findings=found,
        unjudged=unjudged(history),
        numbers=dict(history.epochs[-1]) if history.epochs else {},
        curves=curves,
        undrawn=undrawn,
    )
