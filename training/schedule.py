"""What changes over a run: the weights of the terms, the learning rate, the momentum of the key
encoder.
"""

import dataclasses
import math
from dataclasses import dataclass

from pauc_hub.training.config import Config
from pauc_hub.training.config_limits import MOST_PROGRESSIVE


@dataclass(frozen=True)
class Moment:
    """A place in a run: before step `step` of epoch `epoch`, both from 0, of `steps` steps an
    epoch.
    """

    epoch: int
    step: int
    steps: int

    @property
    def done(self) -> int:
        """Steps of the whole run that are over."""
        return self.epoch * self.steps + self.step


def term_weights(config: Config, epoch: float) -> dict[str, float]:
    """The weight of each term; PAUC's rise linearly from 0 after the warm-up (method.md §4).

    Args:
        epoch: epochs done, with the fraction of the running one.
    """
    if config.objective == "protonce":
        return {"infonce": 1.0, "proto": 1.0}
    rise = config.ramp * config.epochs
    share = min(1.0, max(0.0, (epoch - config.warmup_epochs) / rise)) if rise > 0 else 1.0
    return {
        "infonce": 1.0,
        "proto": share * config.weight_proto,
        "align": share * config.weight_align,
        "unif": share * config.weight_unif,
        "corr": share * config.weight_corr,
        "scatter": share * config.weight_scatter,
    }


def learning_rate(config: Config, done: int, steps: int) -> float:
    """Of the next step: a linear rise to the peak, then a cosine to 0.

    Args:
        done: steps of the whole run that are over.
        steps: of the whole run.
    """
    rise = config.lr_warmup * steps
    if done < rise:
        return config.peak_lr * min(1.0, (done + 1) / rise)
    return config.peak_lr * (1 + math.cos(math.pi * (done - rise) / (steps - rise))) / 2


def key_momentum(config: Config, done: int, steps: int) -> float:
    """Of the momentum encoder in the next step: constant, or from `momentum` along a cosine to 1.

    It is not lower in the first steps: keys that follow at once collapse beside a queue
    (docs/LOG.md).

    Args:
        done, steps: as for learning_rate().

    Source: Grill et al. 2020, section 3.3, for the rise; He et al. 2020 for the constant.
    """
    if not config.momentum_rises:
        return config.momentum
    return 1 - (1 - config.momentum) * (1 + math.cos(math.pi * done / steps)) / 2


def laid_anew(config: Config, epochs: int) -> Config:
    """The same run over another number of epochs, for one that has begun.

    What falls to 0 or rises to 1 along a cosine does so over the new length, so the rate of a
    finished run rises again. What only begins a run (warm-up, ramp, the rate's rise, lower sides)
    keeps its length in epochs, or it would come again.
    """

    def share(of_epochs: float) -> float:
        return min(1.0, of_epochs / epochs)

    return dataclasses.replace(
        config,
        epochs=epochs,
        warmup=share(config.warmup_epochs),
        ramp=share(config.ramp * config.epochs),
        lr_warmup=share(config.lr_warmup * config.epochs),
        progressive_share=min(MOST_PROGRESSIVE, share(config.progressive_share * config.epochs)),
    )
