"""Encoder, its momentum twin and the queue of past keys (method.md §5). N batch, D projection width, R queue."""

import copy
from collections.abc import Iterator
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.projector import Projector
from pauc_hub.training.distributed import ALONE, World
from pauc_hub.training.norms import joined_statistics


class Encoder(nn.Module):
    """A timm backbone without classifier and a projection head: images (N, 3, S, S) to unit rows (N, D), float32."""

    def __init__(self, architecture: str, dim: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(architecture, num_classes=0)
        self.width = cast(int, self.backbone.num_features)
        self.projector = Projector(self.width, dim)

    def forward(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projector(self.backbone(images))
        return projected


class Queue(nn.Module):
    """The last R keys, unit rows; random directions until it has been filled once."""

    rows: Tensor
    position: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def push(self, keys: Tensor) -> None:
        """Replace the oldest rows."""
        slots = (self.position + torch.arange(len(keys), device=self.rows.device)) % len(self.rows)
        self.rows[slots] = keys.detach()
        self.position.add_(len(keys)).remainder_(len(self.rows))


class MomentumPair(nn.Module):
    """The encoder that learns (`query`), the slow copy that makes keys and prototypes (`key`), and the queue."""

    def __init__(self, architecture: str, dim: int, queue: int, group: int, world: World = ALONE) -> None:
        """`group`: images that share batch statistics, see `keys`; `world`: the processes that share each batch."""
        super().__init__()
        self.query = Encoder(architecture, dim)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.queue = Queue(queue, dim)
        self.group, self.world = group, world
        for layer in self.key.modules():  # its running statistics follow the query encoder's, not its own batches
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.0

    def queries(self, images: Tensor) -> Tensor:
        """(N, D) of all processes, with gradient, in batch-norm groups of neighbours. `images` are this process's."""
        groups = _groups(images, self.group)
        with joined_statistics(self.query, len(groups), self.world):
            q = torch.cat([self.query(part) for part in groups])
        return self.world.gather_with_gradient(q, len(images) * self.world.size)

    @torch.no_grad()
    def keys(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(N, D) of all processes, without gradient, in batch-norm groups of another permutation.

        With shared statistics the encoder could match a query and its key by their batch mates (method.md §5).
        """
        count = len(images) * self.world.size
        order = torch.randperm(count, generator=generator)
        shuffled = self.world.shuffle(images.permute(0, 2, 3, 1), order).permute(0, 3, 1, 2)  # channels stay last
        keys = torch.cat([self.key(part) for part in _groups(shuffled, self.group)])
        return self.world.gather(keys, count)[order.argsort().to(keys.device)]

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the key encoder towards the query encoder: weights and batch-norm statistics alike."""
        for slow, fast in zip(_state(self.key), _state(self.query), strict=True):
            slow.lerp_(fast, 1 - momentum)


def _groups(images: Tensor, size: int) -> tuple[Tensor, ...]:
    """Parts of at least `size` rows, as equal as can be."""
    return images.tensor_split(max(1, len(images) // size))


def _state(encoder: Encoder) -> Iterator[Tensor]:
    yield from encoder.parameters()
    yield from (buffer for buffer in encoder.buffers() if buffer.is_floating_point())
