"""torchvision's transforms image by image, in the workers of a DataLoader: what others augment
with, set as ours.
"""

import math
import os
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
from measuring import seconds_of
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.training.config import Config

BATCH = 256


class Settings:
    """The set as pauc train has it by default; torchvision takes the same numbers."""

    def __init__(self, size: int) -> None:
        self.config = Config(size=size, batch_size=BATCH)
        self.preprocessing = Preprocessing(size=size)
        self.sigma = self.config.blur_range
        self.kernel = 2 * max(1, math.ceil(3 * self.sigma[1])) + 1


class InMemory(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each image, made by one transform."""

    def __init__(self, images: list[Any], transform: Callable[[Any], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[index]), self.transform(self.images[index])


class PillowBlur:
    """As MoCo's and lightly's code have it."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def on_tensors(settings: Settings) -> Callable[[Tensor], Tensor]:
    """torchvision's v2, of (3, H, W) uint8."""
    config = settings.config
    steps = [
        v2.RandomResizedCrop(config.size, scale=(config.crop_min, 1.0), antialias=True),
        v2.RandomHorizontalFlip(config.flip),
        v2.RandomApply([v2.ColorJitter(*config.jitter)], config.jitter_probability),
        v2.RandomGrayscale(config.grey),
        v2.RandomApply([v2.GaussianBlur(settings.kernel, settings.sigma)], config.blur),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(settings.preprocessing.mean, settings.preprocessing.std),
    ]
    transform: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return transform


def on_pil(settings: Settings) -> Callable[[Image.Image], Tensor]:
    """torchvision's first transforms, of PIL images."""
    config = settings.config
    steps = [
        transforms.RandomResizedCrop(config.size, scale=(config.crop_min, 1.0)),
        transforms.RandomHorizontalFlip(config.flip),
        transforms.RandomApply([transforms.ColorJitter(*config.jitter)], config.jitter_probability),
        transforms.RandomGrayscale(config.grey),
        transforms.RandomApply([PillowBlur(settings.sigma)], config.blur),
        transforms.ToTensor(),
        transforms.Normalize(settings.preprocessing.mean, settings.preprocessing.std),
    ]
    transform: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return transform


def through(batches: Iterable[Any], device: torch.device) -> int:
    """All batches, until they lie on the device; returns how many images that were."""
    count = 0
    for first, second in batches:
        first.to(device), second.to(device)
        count += len(first)
    return count


def in_workers(
    images: list[Any], transform: Callable[[Any], Tensor], device: torch.device
) -> dict[str, float]:
    """A whole pass of workers that are already there."""
    loader = DataLoader(
        InMemory(images, transform),
        batch_size=BATCH,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    through(loader, device)
    return {"images_per_second": len(images) / seconds_of(lambda: through(loader, device))}
