"""What is drawn for the views of each image, before any image is looked at. N images of a batch, S
side.

A batch's draws follow from (seed, epoch, step) and are made for all of it at once; so whoever has a
part of the batch takes the same rows of images and draws, and sees what one process with the whole
would see.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pauc_hub.training.config import Config
from pauc_hub.training.rng import Purpose, torch_draws

FULL = 2  # views of an image at the full side
TRIES = 10  # at a crop that fits the image, as torchvision has it
LOWEST_ASPECT, HIGHEST_ASPECT = 3 / 4, 4 / 3
_Rows = slice | Tensor


@dataclass(frozen=True)
class ViewDraws:
    """One view of each image: where it is cut, how its colours change. On the CPU.

    Attributes:
        size: side of the view, pixels.
        area: (N, 10) float64, the share of the image's area that each try at a crop shows.
        aspect: (N, 10) float64, width / height of each try.
        place: (N, 2) float64 in [0, 1), where in the room that it has the crop lies, across and
            down.
        mirrored: (N,) bool, left to right.
        brightness, contrast, saturation: (N,) factors; 1 changes nothing, saturation 0 makes grey.
        hue: (N,) turns of the colour circle.
        sigma: (N,) standard deviation of the blur in pixels; 0 is none.
    """

    size: int
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

    def __getitem__(self, rows: _Rows) -> "ViewDraws":
        tensors = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name != "size"
        }
        return replace(self, **tensors)


@dataclass(frozen=True)
class Batch:
    """Images that are seen together.

    Attributes:
        index: (N,) int64, on the CPU.
        draws: of the first and of the second view, then of the small ones.
    """

    index: Tensor
    draws: tuple[ViewDraws, ...]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: _Rows) -> "Batch":
        return Batch(self.index[rows], tuple(draws[rows] for draws in self.draws))


def epoch_batches(config: Config, images: int, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Whole batches of an epoch from the `first`-th on; the few images left over come in another
    epoch's order.

    Args:
        images: how many there are.
    """
    order = torch.randperm(images, generator=torch_draws(config.seed, Purpose.ORDER, epoch))
    size = config.batch_size
    for step in range(first, images // size):
        views = tuple(
            draw_views(
                config,
                size,
                torch_draws(config.seed, Purpose.AUGMENT, epoch, step, view),
                small=view >= FULL,
                side=config.side_at(epoch),
            )
            for view in range(FULL + config.small_views)
        )
        yield Batch(order[step * size : (step + 1) * size], views)


def draw_views(
    config: Config,
    count: int,
    draws: torch.Generator,
    *,
    small: bool = False,
    side: int | None = None,
) -> ViewDraws:
    """MoCo v2's set, each image for itself; strengths and probabilities are the config's.

    Args:
        small: draw a small view (method.md §1).
        side: of the full views, pixels; `size` unless given. Smaller views, and blur, are smaller
            in proportion.
    """
    side = config.size if side is None else side
    size = round(config.small_view_side * side / config.size) if small else side
    shares = config.small_view_shares if small else (config.crop_min, 1.0)
    area = _between(*shares, (count, TRIES), draws)
    aspect = _between(
        math.log(LOWEST_ASPECT), math.log(HIGHEST_ASPECT), (count, TRIES), draws
    ).exp()
    place = _between(0.0, 1.0, (count, 2), draws)
    mirrored = _chosen(count, config.flip, draws)
    still = ~_chosen(count, config.jitter_probability, draws)
    factors = [
        _between(1 - reach, 1 + reach, (count,), draws).float() for reach in config.jitter[:3]
    ]
    hue = (
        _between(-config.jitter[3], config.jitter[3], (count,), draws)
        .float()
        .masked_fill_(still, 0.0)
    )
    brightness, contrast, saturation = (factor.masked_fill_(still, 1.0) for factor in factors)
    saturation.masked_fill_(_chosen(count, config.grey, draws), 0.0)
    sharp = ~_chosen(count, config.blur, draws)
    least, largest = (sigma * size / config.size for sigma in config.blur_range)
    sigma = _between(least, largest, (count,), draws).float().masked_fill_(sharp, 0.0)
    return ViewDraws(
        size, area, aspect, place, mirrored, brightness, contrast, saturation, hue, sigma
    )


def _between(low: float, high: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Uniform, in float64: every machine rounds boxes from it alike."""
    return low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=draws)


def _chosen(count: int, probability: float, draws: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draws) < probability
