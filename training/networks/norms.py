"""Batch-norm statistics: of groups within a batch, and of all processes that share one, as one
process would have them.

N images, C channels.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pauc_hub.device import autocast
from pauc_hub.training.distributed import ONE_PROCESS, World

# of whose statistics the mean is taken where they are measured anew; running ones are mostly of the
# last ten
BATCHES_MEASURED = 100


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm that learns from groups of neighbours in the batch, one after the other, each with
    its own statistics.

    All else in a network sees the whole batch, which is quicker than one group after the other
    through all of it.
    """

    def __init__(self, channels: int, *, group: int, **settings: Any) -> None:
        """`group`: images that share statistics, at least."""
        super().__init__(channels, **settings)
        self.group = group

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W)."""
        groups = group_count(len(images), self.group)
        if not self.training or groups == 1:
            return super().forward(images)
        plain = self.affine and self.track_running_stats and self.momentum is not None
        if images.device.type != "cpu" or torch.compiler.is_compiling() or not plain:
            return torch.cat(
                [
                    super(GroupedBatchNorm, self).forward(each)
                    for each in images.tensor_split(groups)
                ]
            )
        assert self.num_batches_tracked is not None, "statistics are tracked"
        self.num_batches_tracked.add_(groups)
        statistics = (self.running_mean, self.running_var)
        normalised: Tensor = _Groups.apply(
            images, self.weight, self.bias, *statistics, groups, self.momentum, self.eps
        )
        return normalised


class GroupedBatchNormAct(GroupedBatchNorm):
    """timm's batch norm with dropout and activation behind it, in groups; made by
    group_batch_norms() alone.
    """

    drop: nn.Module
    act: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W)."""
        found: Tensor = self.act(self.drop(super().forward(images)))
        return found


def group_batch_norms(network: nn.Module, group: int) -> nn.Module:
    """The same network, whose batch norms learn from groups now, if it has any; names, weights and
    activations stay.

    Batch norm over rows (BatchNorm1d of the LeViT family) keeps the whole batch's statistics.

    Args:
        group: images that share statistics, at least.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # neither kind has attributes that the other has not, but for `group`
            layer.__class__ = (
                GroupedBatchNormAct if isinstance(layer, BatchNormAct2d) else GroupedBatchNorm
            )
            cast(GroupedBatchNorm, layer).group = group
    return network


class _Groups(Function):
    """torch's batch norm of each group, written side by side: on a CPU joining them takes longer
    (docs/LOG.md).

    Compiled, joining costs nothing, and statistics may not move within a Function. GPUs were not at
    hand.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        groups: int,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """(N, C, H, W); the running statistics move once a group."""
        normalised, own = torch.empty_like(images), []
        for each, place in zip(
            images.tensor_split(groups), normalised.tensor_split(groups), strict=True
        ):
            # the group's mean, and 1 / its standard deviation
            own.append(running_mean.new_empty(2, len(weight)))
            mean, scale = own[-1].unbind()
            torch.ops.aten.native_batch_norm.out(
                each,
                weight,
                bias,
                running_mean,
                running_var,
                True,
                momentum,
                eps,
                out=place,
                save_mean=mean,
                save_invstd=scale,
            )
        ctx.save_for_backward(images, weight, torch.stack(own))
        ctx.eps = eps
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """To the images, and to weight and bias, which all groups share."""
        images, weight, own = ctx.saved_tensors
        to_images, to_both = torch.empty_like(images), torch.zeros_like(own[0])
        parts = (each.tensor_split(len(own)) for each in (gradient, images, to_images))
        for (mean, scale), above, each, place in zip(own, *parts, strict=True):
            below, *both = torch.ops.aten.native_batch_norm_backward(
                above, each, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
            )
            place.copy_(below)
            to_both += torch.stack(both)
        return to_images, *to_both, None, None, None, None, None


def group_count(images: int, size: int) -> int:
    """Groups of at least `size` images, as equal as can be; so many images as some of these have
    make just as many.
    """
    return max(1, images // size)


@contextmanager
def joined_statistics(encoder: nn.Module, groups: int, world: World) -> Iterator[None]:
    """While `groups` groups go through the encoder on each process; then its running statistics
    have seen all of them.

    A group g moves a statistic s to (1 - m) s + m g, which is linear in s: so the last rank's
    groups count as they are, and each other's the less, the more groups there are after them.
    """
    if world.size == 1:
        yield
        return
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not layers:
        yield
        return
    held = [
        (cast(Tensor, each), layer)
        for layer in layers
        for each in (layer.running_mean, layer.running_var)
    ]
    statistics = [statistic for statistic, _ in held]
    before = torch.cat(statistics)
    # float64, one entry for each of all statistics: layers may differ in their momentum
    momenta = [
        torch.full_like(each, layer.momentum or 0.0, dtype=torch.float64) for each, layer in held
    ]
    keep = 1 - torch.cat(momenta)
    yield
    after = (world.size - 1 - world.rank) * groups
    own = keep**after * (torch.cat(statistics) - keep**groups * before)
    joined = world.sum(own) + keep ** (world.size * groups) * before
    for statistic, value in zip(
        statistics, torch.split(joined, [len(each) for each in statistics]), strict=True
    ):
        statistic.data.copy_(value)  # past autograd, which has noted them and needs them no more


@torch.no_grad()
def measure_statistics(
    encoder: nn.Module, batches: Iterable[Tensor], dtype: torch.dtype, world: World = ONE_PROCESS
) -> None:
    """Replace the running statistics by the mean of the batches' own, each batch a single group.

    Args:
        batches: of normalised images, (N, 3, S, S); as many on all processes, and at least one.
        dtype: of the matrix products.
    """
    layers = [layer for layer in encoder.modules() if isinstance(layer, GroupedBatchNorm)]
    before = [(layer.momentum, layer.group) for layer in layers]
    for number, images in enumerate(batches):
        for layer in layers:
            # of the mean of all so far
            layer.momentum, layer.group = 1 / (number + 1), sys.maxsize
        with autocast(images.device, dtype):
            encoder(images)
    for layer, (momentum, group) in zip(layers, before, strict=True):
        layer.momentum, layer.group = momentum, group
        for statistic in (layer.running_mean, layer.running_var):
            cast(Tensor, statistic).copy_(world.sum(cast(Tensor, statistic)) / world.size)
