"""How quickly a network learns on the machine at hand, measured on random pixels. S side of a
view.
"""

import time
from functools import cache

import torch

from pauc_hub.device import autocast
from pauc_hub.training.networks.encoder import Encoder

# images at once: enough to keep the device busy, few enough to fit it
TRIED = {"cpu": 8, "cuda": 64}
ROUNDS = 3  # of which the quickest counts: the first one also prepares
KEYS_TOO = 4 / 3  # a step also makes keys, by a forward pass, half as long as a backward one
DIM = 128  # projections: their width hardly matters


@cache
def images_per_second(
    architecture: str, size: int, device: torch.device, dtype: torch.dtype
) -> float:
    """Images that a step learns from, per second, while nothing is waited for.

    Args:
        size: S, pixels.
        dtype: of the matrix products.

    Raises:
        UsageError: there is no such network, or it does not take views of that size.
    """
    count = TRIED[device.type]
    with torch.random.fork_rng(devices=[]):
        encoder = (
            Encoder(architecture, DIM, count, size).to(device).to(memory_format=torch.channels_last)
        )
        images = torch.randn(count, 3, size, size).to(device).to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        with autocast(device, dtype):
            rows = encoder(images)
        torch.autograd.backward(rows.square().mean())
        # waits for the device
        rows[0, 0].item()
        seconds.append(time.monotonic() - began)
    return count / (min(seconds) * KEYS_TOO)
