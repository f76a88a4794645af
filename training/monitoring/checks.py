"""All checks of a run, and what they could not judge yet."""

from collections.abc import Callable

from pauc_hub.training.monitoring.clusters import TREND, coagulated, misclustered
from pauc_hub.training.monitoring.curves import LOSS
from pauc_hub.training.monitoring.finding import RECENT, Finding
from pauc_hub.training.monitoring.history import History
from pauc_hub.training.monitoring.learning import (
    FEWEST_STEPS,
    collapsed,
    diverged,
    learning_is_judged,
    stuck,
)
from pauc_hub.training.monitoring.pace import BRIEF, burdened, starved, steady


def failed(run: History) -> Finding | None:
    """It ended with an error that none of the others accounts for."""
    if not run.failure:
        return None
    return Finding(
        "failed",
        "training ended with an error",
        f"epoch {run.epochs_done + 1}: {run.failure}",
        LOSS,
        "as it says",
    )


CHECKS: tuple[Callable[[History], Finding | None], ...] = (
    diverged,
    collapsed,
    stuck,
    coagulated,
    misclustered,
    starved,
    burdened,
    failed,
)
EXPLAINED_BY = {  # where these are found, those follow from them
    "stuck": ("diverged", "collapsed"),
    "coagulated": ("diverged", "collapsed"),
    "overclustered": ("diverged", "collapsed"),
    "lopsided": ("diverged", "collapsed"),
    "failed": ("diverged", "collapsed"),
}


def findings(run: History) -> list[Finding]:
    """All that is wrong, and not only a consequence of something else that is."""
    found = {finding.name: finding for check in CHECKS if (finding := check(run)) is not None}
    return [
        finding
        for name, finding in found.items()
        if not found.keys() & set(EXPLAINED_BY.get(name, ()))
    ]


def unjudged(run: History) -> list[str]:
    """What there is too little to judge by, and what it takes."""
    config, left = run.config, []
    if not learning_is_judged(run):
        now = f"now {run.epochs_done} and {run.steps_done}"
        left.append(
            f"whether it learns: that takes {RECENT} epochs, {FEWEST_STEPS} steps and a tenth "
            f"of the run ({now})"
        )
    clusterings = len(run.series("intra_share")[0])
    if config.objective == "infonce":
        left.append("its clusters: the objective infonce has none")
    elif clusterings < TREND:
        first = f"the first is in epoch {config.warmup_epochs + 1}"
        left.append(f"coagulation: that takes {TREND} E-steps (now {clusterings}; {first})")
    if len(steady(run, "data_wait", "mstep_seconds")) < RECENT:
        left.append(f"its time: that takes {RECENT + 1} epochs of {BRIEF:.0f} s or more")
    return left
