"""Whether a run learns: it may diverge, collapse, or stay where it began. R length of the queue.

A check says nothing where there is too little to judge by; thresholds stand above it, each with its
reason.
"""

import math
from statistics import fmean

from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.curves import LOSS, RANK, SPREAD
from pauc_hub.training.monitoring.finding import RECENT, Finding
from pauc_hub.training.monitoring.history import History

# a contrastive loss does not move before; the shortest runs that learnt had about as many
FEWEST_STEPS = 100
TENTH = 0.1  # of the epochs: long runs of small sets rise to their rate slowly
PLENTY = 1000  # steps after which no tenth is waited for


def learning_is_judged(run: History) -> bool:
    """Whether there is enough to call a run healthy."""
    begun = run.steps_done >= FEWEST_STEPS and run.epochs_done >= TENTH * run.config.epochs
    return len(run.epochs) >= RECENT and (begun or run.steps_done >= PLENTY)


def chance_is_judged(run: History) -> bool:
    """Whether a loss at chance means anything: that of a finished run does, however short it was.

    But for a queue that still holds the random rows it begins with, which are easier to tell from a
    key.
    """
    filled = run.steps_done * run.config.keys_per_step >= (run.config.queue or 0)
    return learning_is_judged(run) or (run.finished and filled)


LOST = 1 / 3  # of what InfoNCE had gained on chance; epochs of tiny sets waver by a fifth
CLEAR = 0.3  # nats of gain that can be lost at all: less is noise
# first epochs, while the queue's random rows make way for harder ones and the loss rises
SETTLING = 2


def diverged(run: History) -> Finding | None:
    """The loss is no number any more, or climbs."""
    broken = [line for line in (*run.steps, *run.epochs) if "loss" in line and line["loss"] is None]
    if broken or "no longer finite" in run.failure:
        at = (
            f"step {broken[0]['step']} of epoch {broken[0]['epoch'] + 1}"
            if broken
            else f"epoch {run.epochs_done + 1}"
        )
        return _diverged(run, f"not finite any more in {at}")
    epochs, losses = run.series("infonce")
    epochs, losses = epochs[SETTLING:], losses[SETTLING:]
    if len(losses) < 2 * RECENT:
        return None
    means = [fmean(losses[i : i + RECENT]) for i in range(len(losses) - RECENT + 1)]
    best = min(range(len(means)), key=means.__getitem__)
    gain, lost = _chance(run) - means[best], means[-1] - means[best]
    if gain < CLEAR or lost < max(CLEAR, LOST * gain):
        return None
    return _diverged(
        run,
        f"infonce rose from {means[best]:.2f} around epoch {epochs[best + RECENT // 2]} "
        f"to {means[-1]:.2f} in the last {RECENT} epochs",
    )


def _diverged(run: History, evidence: str) -> Finding:
    return Finding(
        "diverged",
        "the steps are too long, and what was learnt is being lost",
        evidence,
        LOSS,
        f"{_lower_lr(run.config)}; a longer lr_warmup helps too",
    )


# --- it tells nothing apart

LINE = 2.0  # effective rank: 1 is a line, 0 a point; untrained networks have dozens
# uniformity: a mean squared distance of 0.015, where the sphere's is 2; logits then differ by under
# 0.1
POINT = -0.03
# alignment of queries and keys that lie in one place; it is 0.1 and more where views differ
ONE_PLACE = 0.02
GAIN = 0.05  # nats below ln(R + 1) that show that something is told apart


def collapsed(run: History) -> Finding | None:
    """All images get about the same feature."""
    if "have collapsed" in run.failure:
        return _collapsed(run, f"all distances are 0 in epoch {run.epochs_done + 1}", LOSS)
    if not chance_is_judged(run):
        return None
    ranks, spread = run.recent("effective_rank", RECENT), run.recent("uniformity", RECENT)
    enough = len(ranks) == RECENT or (run.finished and ranks)
    if enough and (max(ranks) < LINE or min(spread) > POINT):
        told = (
            f"effective_rank {ranks[-1]:.1f} and uniformity {spread[-1]:.3f} in epoch "
            f"{run.epochs_done}"
        )
        healthy = "well above 10 and below -1 are healthy"
        return _collapsed(run, f"{told}; {healthy}", RANK if max(ranks) < LINE else SPREAD)
    gap = run.recent("alignment", RECENT)
    if _blind(run) and gap and max(gap) < ONE_PLACE:
        return _collapsed(
            run,
            f"{_no_gain(run)}, and a query lies on its key (alignment {fmean(gap):.4f})",
            LOSS,
        )
    return None


def _collapsed(run: History, evidence: str, panel: str) -> Finding:
    return Finding(
        "collapsed",
        "all images get about the same features, so that these tell nothing",
        evidence,
        panel,
        _remedies(
            run.config,
            (
                f"{_lower_lr(run.config)}; if that does not help, a higher weight_unif with "
                "objective=pauc"
            ),
        ),
    )


def stuck(run: History) -> Finding | None:
    """InfoNCE stays at the logarithm of the number of keys: a query finds its own among them by
    chance alone.
    """
    if not chance_is_judged(run) or not _blind(run):
        return None
    if run.finished and run.steps_done < PLENTY:
        advice = _longer(run)
    else:
        milder = "milder views (a larger crop_min, less jitter), or more epochs"
        advice = f"{_lower_lr(run.config)}; if that does not help, {milder}"
    return Finding(
        "stuck",
        (
            "the loss stays where guessing would have it: queries do not find their keys among the "
            "others"
        ),
        _no_gain(run),
        LOSS,
        _remedies(run.config, advice),
    )


def _blind(run: History) -> bool:
    """All the losses that count, and not one of them better than guessing."""
    losses, _ = _last_losses(run)
    return bool(losses) and min(losses) > _chance(run) - GAIN


def _last_losses(run: History) -> tuple[list[float], str]:
    """InfoNCE of the last epochs, and where that is.

    The first epochs' means hold steps with a random queue, so of a finished run of few epochs its
    last steps count.
    """
    if run.finished and len(run.epochs) < SETTLING + RECENT:
        losses = [
            line["infonce"] for line in run.steps[-RECENT:] if line.get("infonce") is not None
        ]
        if losses:
            return losses, f"at the end, after {run.steps_done} steps"
    losses = run.recent("infonce", RECENT)
    return losses, f"in the last {len(losses)} of {run.epochs_done} epochs"


def _chance(run: History) -> float:
    """InfoNCE of a query to which all keys are alike."""
    return math.log((run.config.queue or 0) + 1)


def _no_gain(run: History) -> str:
    losses, where = _last_losses(run)
    keys = (run.config.queue or 0) + 1
    return (
        f"infonce {fmean(losses):.2f} {where}; ln(queue + 1) = ln {keys} = {_chance(run):.2f} "
        "is chance"
    )


USUAL_LR = {"sgd": Config.lr, "lars": 0.3, "adamw": 0.001}  # by optimiser, for a batch of 256
FAR = 10  # times the usual rate, or a part of it


def _remedies(config: Config, otherwise: str) -> str:
    """The settings that lie far from the usual, put back, where there are any."""
    usual, lr = Config(), USUAL_LR[config.optimiser]
    off = [
        (
            config.momentum < 0.9,
            f"momentum={usual.momentum:g} (now {config.momentum:g}: keys change too fast)",
        ),
        (
            config.momentum > 0.9999,
            f"momentum={usual.momentum:g} (now {config.momentum:g}: keys change too slowly)",
        ),
        (config.lr > FAR * lr, f"lr={lr:g} (now {config.lr:g}: steps too long)"),
        (config.lr < lr / FAR, f"lr={lr:g} (now {config.lr:g}: steps too short)"),
        (
            config.temperature > 0.5,
            f"temperature={usual.temperature:g} (now {config.temperature:g}: too even)",
        ),
    ]
    found = [remedy for is_off, remedy in off if is_off]
    return f"start anew with {', '.join(found)}" if found else otherwise


def _longer(run: History) -> str:
    """So many epochs that there are plenty of steps."""
    epochs = max(2 * run.config.epochs, math.ceil(PLENTY / max(1, run.steps_an_epoch)))
    return (
        f"go on for longer: resume=True with epochs={epochs} (now {run.config.epochs}: "
        f"{run.steps_done} steps are few, "
        f"and runs that learn may need {PLENTY})"
    )


def _lower_lr(config: Config) -> str:
    return f"start anew with lr={_lower(config):g} (now {config.lr:g})"


def _lower(config: Config) -> float:
    """A third, or the usual where it is far above that."""
    usual = USUAL_LR[config.optimiser]
    return usual if config.lr > FAR * usual else float(f"{config.lr / 3:.1g}")
