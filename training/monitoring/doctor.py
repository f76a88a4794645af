"""What a run's own numbers say about it, also while it goes on: what is wrong, what shows it, what
to change.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pauc_hub.training.monitoring.checks import findings, unjudged
from pauc_hub.training.monitoring.curves import drawn
from pauc_hub.training.monitoring.finding import Finding
from pauc_hub.training.monitoring.history import History, read_history
from pauc_hub.training.monitoring.learning import learning_is_judged
from pauc_hub.training.run.run_folder import MODEL, RUN_CURVES


class Judgement(NamedTuple):
    """What is wrong with a run, the worst first, and all of it in a few words.

    Attributes:
        verdict: the findings' names; without any `healthy`, or `too early to tell`, or `too short
            to tell` of a finished run.
    """

    verdict: str
    findings: list[Finding]


def judge(run: History) -> Judgement:
    found = findings(run)
    if found:
        return Judgement(", ".join(finding.name for finding in found), found)
    if learning_is_judged(run):
        return Judgement("healthy", [])
    return Judgement("too short to tell" if run.finished else "too early to tell", [])


@dataclass(frozen=True)
class Diagnosis:
    """Of one run.

    Attributes:
        epochs_done: of `epochs`.
        finished: whether all epochs are over and its model folder is there; a run that goes on
            looks like one that was stopped.
        findings: what is wrong, the worst first.
        verdict: as Judgement has it.
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
    verdict, found = judge(history)
    curves, undrawn = drawn(history, run / RUN_CURVES)
    return Diagnosis(
        epochs_done=history.epochs_done,
        epochs=history.config.epochs,
        finished=history.finished and (run / MODEL).exists(),
        verdict=verdict,
        findings=found,
        unjudged=unjudged(history),
        numbers=dict(history.epochs[-1]) if history.epochs else {},
        curves=curves,
        undrawn=undrawn,
    )
