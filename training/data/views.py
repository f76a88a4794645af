"""What is drawn for the two views of each image, before any image is looked at. N images of a batch, S side.

A batch's draws follow from (seed, epoch, step) and are made for all of it at once; so whoever has a part of the batch
takes the same rows of images and draws, and sees what one process with the whole would see.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pauc_hub.training.config import Config
from pauc_hub.training.rng import Purpose, torch_draws

TRIES = 10  # at a crop that fits the image, as torchvision has it
LOWEST_ASPECT, HIGHEST_ASPECT = 3 / 4, 4 / 3
Rows = slice | Tensor


@dataclass(frozen=True)
class ViewDraws:
    """One view of each image: where it is cut, how its colours change. On the CPU.

    Attributes:
        area: (N, 10) float64, the share of the image's area that each try at a crop shows.
        aspect: (N, 10) float64, width / height of each try.
        place: (N, 2) float64 in [0, 1), where in the room that it has the crop lies, across and down.
        mirrored: (N,) bool, left to right.
        brightness, contrast, saturation: (N,) factors; 1 changes nothing, saturation 0 makes grey.
        hue: (N,) turns of the colour circle.
        sigma: (N,) standard deviation of the blur in pixels; 0 is none.
    """

    area: Tensor
    aspect: Tensor
    place: Tensor
    mirrored: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.mirrored)

    def __getitem__(self, rows: Rows) -> "ViewDraws":
        return ViewDraws(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Batch:
    """Images that are seen together.

    Attributes:
        index: (N,) int64, on the CPU.
        draws: of the first and of the second view.
    """

    index: Tensor
    draws: tuple[ViewDraws, ViewDraws]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Rows) -> "Batch":
        first, second = self.draws
        return Batch(self.index[rows], (first[rows], second[rows]))


def epoch_batches(config: Config, images: int, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Whole batches of an epoch from the `first`-th on; the few images left over come in another epoch's order.

    Args:
        images: how many there are.
    """
    order = torch.randperm(images, generator=torch_draws(config.seed, Purpose.ORDER, epoch))
    size = config.batch_size
    for step in range(first, images // size):
        sides = (
            draw_views(config, size, torch_draws(config.seed, Purpose.AUGMENT, epoch, step, side)) for side in range(2)
        )
        yield Batch(order[step * size : (step + 1) * size], (next(sides), next(sides)))


def draw_views(config: Config, count: int, draws: torch.Generator) -> ViewDraws:
    """MoCo v2's set, each image for itself; strengths and probabilities are the config's."""
    area = _between(config.crop_min, 1.0, (count, TRIES), draws)
    aspect = _between(math.log(LOWEST_ASPECT), math.log(HIGHEST_ASPECT), (count, TRIES), draws).exp()
    place = _between(0.0, 1.0, (count, 2), draws)
    mirrored = _chosen(count, config.flip, draws)
    still = ~_chosen(count, config.jitter_probability, draws)
    factors = [_between(1 - reach, 1 + reach, (count,), draws).float() for reach in config.jitter[:3]]
    hue = _between(-config.jitter[3], config.jitter[3], (count,), draws).float().masked_fill_(still, 0.0)
    brightness, contrast, saturation = (factor.masked_fill_(still, 1.0) for factor in factors)
    saturation.masked_fill_(_chosen(count, config.grey, draws), 0.0)
    sharp = ~_chosen(count, config.blur, draws)
    sigma = _between(*config.blur_range, (count,), draws).float().masked_fill_(sharp, 0.0)
    return ViewDraws(area, aspect, place, mirrored, brightness, contrast, saturation, hue, sigma)


def _between(low: float, high: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Uniform, in float64: every machine rounds boxes from it alike."""
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=draws)


def _chosen(count: int, probability: float, draws: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draws) < probability
