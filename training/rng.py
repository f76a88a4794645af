"""Every random number of a run comes from (seed, what it is for, where in the run), never from a
generator's past.

So a resumed run draws what an uninterrupted one would have drawn, and nothing depends on the number
of workers.
"""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a draw is for; the numbers are part of every run's record, so none is ever changed."""

    WEIGHTS = 0
    ORDER = 1
    CROPS = 2
    AUGMENT = 3
    SHUFFLE = 4
    NEGATIVES = 5
    CLUSTERS = 6
    SAMPLE = 7
    CONTROL = 8
    KEPT_OUT = 9
    BOOTSTRAP = 10


def seed_for(seed: int, purpose: Purpose, *position: int) -> int:
    """A 63-bit seed of its own for each place, e.g. (epoch, step)."""
    state = np.random.SeedSequence((seed, purpose, *position)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def torch_draws(seed: int, purpose: Purpose, *position: int) -> torch.Generator:
    """On the CPU whatever the device, so that a GPU run draws the same."""
    return torch.Generator().manual_seed(seed_for(seed, purpose, *position))
