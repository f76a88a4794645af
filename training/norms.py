"""Batch-norm statistics of all processes that share a batch, as one process would have them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from pauc_hub.training.distributed import World


@contextmanager
def joined_statistics(encoder: nn.Module, groups: int, world: World) -> Iterator[None]:
    """While `groups` groups go through the encoder on each process; then its running statistics have seen all of them.

    A group g moves a statistic s to (1 - m) s + m g, which is linear in s: so the last rank's groups count as they are,
    and each other's the less, the more groups there are after them.
    """
    if world.size == 1:
        yield
        return
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    statistics = [cast(Tensor, each) for layer in layers for each in (layer.running_mean, layer.running_var)]
    (keep,) = {1 - cast(float, layer.momentum) for layer in layers}
    before = torch.cat(statistics)
    yield
    after = (world.size - 1 - world.rank) * groups
    own = keep**after * (torch.cat(statistics) - keep**groups * before)
    joined = world.sum(own) + keep ** (world.size * groups) * before
    for statistic, value in zip(statistics, torch.split(joined, [len(each) for each in statistics]), strict=True):
        statistic.data.copy_(value)  # past autograd, which has noted them and needs them no more
