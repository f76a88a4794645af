"""Encoder, its momentum twin and the queue of past keys (method.md §5). N batch, D projection
width, R queue.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from pauc_hub.device import send
from pauc_hub.models.projector import Projector
from pauc_hub.training.distributed import ONE_PROCESS, World
from pauc_hub.training.networks.backbone import build_backbone, inspect_backbone
from pauc_hub.training.networks.convolutions import quickened
from pauc_hub.training.networks.norms import group_batch_norms, group_count, joined_statistics

EXPORTED_ENCODER: Literal["query", "momentum"] = "query"
"""The encoder that a run's model is made of, and that kNN looks at: the one that PCL and MoCo
evaluate.
"""


UNKNOWN, STALE = -1, -2  # of the queue's rows, in place of an image


class Encoder(nn.Module):
    """A timm backbone without classifier and a projection head: images (N, 3, S, S) to unit rows
    (N, D), float32.
    """

    def __init__(
        self, architecture: str, dim: int, group: int = sys.maxsize, size: int = 224
    ) -> None:
        """An encoder with initial weights.

        Args:
            group: images that share batch statistics in training; whole batches unless given.
            size: S, where it is part of the network.

        Raises:
            UsageError: there is no such network, or it does not take such views.
        """
        super().__init__()
        self.backbone = quickened(group_batch_norms(build_backbone(architecture, size), group))
        self.width = inspect_backbone(architecture, size).width
        self.projector = Projector(self.width, dim)
        self.steady = False

    def hold_statistics(self) -> None:
        """Batch norm keeps the running statistics that it has, and normalises by them, also while
        it learns.
        """
        self.steady = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.steady:
            for layer in self.backbone.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projector(self.backbone(images))
        return projected


class Queue(nn.Module):
    """The last R keys and which images they are of.

    Attributes:
        rows: (R, D) unit rows; random directions until the queue has been filled once.
        index: (R,) int64, the image of each key; UNKNOWN until the queue has been filled once,
            STALE where the key no longer counts.
        position: () int64, the oldest row.
    """

    rows: Tensor
    index: Tensor
    position: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("index", torch.full((length,), UNKNOWN))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def push(self, keys: Tensor, index: Tensor) -> None:
        """Replace the oldest rows.

        Args:
            keys: (n, D) unit rows.
            index: (n,) int64, the image of each.
        """
        slots = (self.position + torch.arange(len(keys), device=self.rows.device)) % len(self.rows)
        self.rows[slots] = keys.detach()
        self.index[slots] = index
        self.position.add_(len(keys)).remainder_(len(self.rows))

    def forget(self) -> None:
        """No key counts until it is replaced: they were made of views of another side (method.md
        §5).
        """
        self.index.fill_(STALE)

    def masked(self, index: Tensor, *, own: bool) -> Tensor:
        """(N, R) bool: which rows are no negatives of each image.

        Args:
            index: (N,) int64, the images.
            own: mask the older keys of the same image too.
        """
        stale = (self.index == STALE).expand(len(index), -1)
        return (index.unsqueeze(1) == self.index) | stale if own else stale


class MomentumPair(nn.Module):
    """The encoder that learns (`query`), the slow copy that makes keys and prototypes (`key`), and
    the queue.
    """

    def __init__(
        self,
        architecture: str,
        dim: int,
        queue: int,
        group: int,
        parts: int = 1,
        *,
        size: int = 224,
        steady: bool = False,
        compiled: bool = False,
        world: World = ONE_PROCESS,
    ) -> None:
        """A pair of equal encoders.

        Args:
            group: images that share batch statistics, see `keys`; without batch norm each image is
                by itself.
            parts: in which a batch's gradient is worked out, see `queries`.
            size: side of the views, pixels.
            steady: batch norm keeps its statistics, see hold_statistics(), and groups mean nothing.
            compiled: let torch.compile make faster code of the encoders, in the first step.
            world: the processes that share each batch.
        """
        super().__init__()
        self.query = Encoder(architecture, dim, group, size)
        if steady:
            self.query.hold_statistics()
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.queue = Queue(queue, dim)
        self.has_batch_norm = not steady and any(True for _ in _norms(self.query))
        self.group = group if self.has_batch_norm else 1
        self.parts, self.world = parts, world
        self.encode: Callable[[Encoder, Tensor], Tensor] = (
            torch.compile(_encode) if compiled else _encode
        )

    @property
    def exported(self) -> Encoder:
        """The encoder that becomes the run's model (EXPORTED_ENCODER)."""
        return self.query if EXPORTED_ENCODER == "query" else self.key

    def queries(self, images: Tensor) -> Tensor:
        """(N, D) of all processes, with gradient, in batch-norm groups of neighbours. `images` are
        this process's.

        In several parts, the activations of one alone are in memory at any time: none is kept for
        the backward pass, which makes those of each part anew, at the cost of another forward pass.
        The numbers are the same, whatever loss of the whole batch follows.
        """
        with joined_statistics(self.query, group_count(len(images), self.group), self.world):
            return self._queries(images)

    def small_queries(self, images: Tensor) -> Tensor:
        """The same of small views, which leave the running statistics of batch norm as they are."""
        with _statistics_at_rest(self.query):
            return self._queries(images)

    def _queries(self, images: Tensor) -> Tensor:
        if self.parts == 1:
            q = self.encode(self.query, images)
        else:
            q = torch.cat([self._queries_twice(part) for part in self._divided(images)])
        return self.world.gather_with_gradient(q, len(images) * self.world.size)

    def _queries_twice(self, images: Tensor) -> Tensor:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            # the first time, and when it is done anew
            return nullcontext(), _statistics_at_rest(self.query)

        return checkpoint(
            self.encode,
            self.query,
            images,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=contexts,
        )

    @torch.no_grad()
    def keys(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(N, D) of all processes, without gradient, in batch-norm groups of another permutation.

        With shared statistics the encoder could match a query and its key by their batch mates
        (method.md §5). The running statistics of the key encoder are those of its own batches, as
        the query encoder's are. Without batch norm there is nothing to hide, and the images stay
        where they are.
        """
        count = len(images) * self.world.size
        if not self.has_batch_norm:
            return self.world.gather(
                torch.cat([self.encode(self.key, part) for part in self._divided(images)]), count
            )
        order = torch.randperm(count, generator=generator)
        # channels stay last
        shuffled = self.world.shuffle(images.permute(0, 2, 3, 1), order).permute(0, 3, 1, 2)
        with joined_statistics(self.key, group_count(len(images), self.group), self.world):
            keys = torch.cat([self.encode(self.key, part) for part in self._divided(shuffled)])
        return self.world.gather(keys, count)[send(order.argsort(), keys.device)]

    def _divided(self, images: Tensor) -> list[Tensor]:
        """Neighbouring groups together, as equal in number as can be."""
        groups = images.tensor_split(group_count(len(images), self.group))
        edges = [part * len(groups) // self.parts for part in range(self.parts + 1)]
        sizes = [sum(map(len, groups[start:end])) for start, end in pairwise(edges)]
        return list(torch.split(images, sizes))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the key encoder's weights towards the query encoder's; batch-norm statistics are no
        weights.
        """
        average = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]  # a GPU does all tensors in one kernel
        average(list(self.key.parameters()), list(self.query.parameters()), 0)


def _encode(encoder: Encoder, images: Tensor) -> Tensor:
    rows: Tensor = encoder(images)
    return rows


def _norms(encoder: Encoder) -> Iterator[nn.BatchNorm2d]:
    return (layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d))


@contextmanager
def evaluating(encoder: Encoder) -> Iterator[None]:
    """In evaluation mode, and back in training mode whatever happens."""
    encoder.eval()
    try:
        yield
    finally:
        encoder.train()


@contextmanager
def _statistics_at_rest(encoder: Encoder) -> Iterator[None]:
    """What passes leaves the running statistics as they are."""
    layers = list(_norms(encoder))
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
