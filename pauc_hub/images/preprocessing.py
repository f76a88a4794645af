"""The evaluation transform in two halves: bytes per image, on any thread; numbers per batch, on the device."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F

from pauc_hub.errors import ModelFolderError

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LONGEST_ASPECT = 32  # past it the whole resized strip is never made: of a 1 x 30000 image it would take 6 GB


@dataclass(frozen=True)
class Preprocessing:
    """What timm's own evaluation transform does with crop mode `center`, to the last bit."""

    size: int
    """Side of the square that the network sees, in pixels."""
    crop_pct: float = 0.875
    """Side of the square / short side of the image once resized; in (0, 1]."""
    interpolation: str = "bicubic"
    """A key of INTERPOLATIONS."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of red, green and blue in [0, 1]; subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Of the same, > 0; divided by."""

    def __post_init__(self) -> None:
        problems = [
            f"{field} is {getattr(self, field)!r}, not {allowed}" for field, allowed, fits in self._limits() if not fits
        ]
        if problems:
            raise ModelFolderError(f"this preprocessing cannot be done: {'; '.join(problems)}.")

    def _limits(self) -> list[tuple[str, str, bool]]:
        return [
            ("size", "a positive number of pixels", self.size >= 1),
            ("crop_pct", "in (0, 1]", 0 < self.crop_pct <= 1),
            ("interpolation", f"one of {', '.join(INTERPOLATIONS)}", self.interpolation in INTERPOLATIONS),
            ("std", "positive", min(self.std) > 0),
        ]

    @property
    def short_side(self) -> int:
        """Of the resized image, before the crop; in pixels, rounded as timm does."""
        return math.floor(self.size / self.crop_pct)

    def square(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize the short side, then cut out the centre.

        Args:
            image: mode RGB, of any size from 1 x 1.

        Returns:
            (size, size, 3) uint8.
        """
        if image.mode != "RGB":
            raise ValueError(f"square() takes RGB images, not mode {image.mode}; read_image() makes them")
        resample = INTERPOLATIONS[self.interpolation]
        width, height = _resized(image.size, self.short_side)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        crop = (left, top, left + self.size, top + self.size)
        if max(image.size) > LONGEST_ASPECT * min(image.size):
            source = _scaled(crop, image.width / width, image.height / height, image.size)
            return np.array(image.resize((self.size, self.size), resample, box=source))
        return np.array(image.resize((width, height), resample).crop(crop))

    def quick_square(self, pixels: npt.NDArray[np.uint8], size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """square() in half the time, by torch: no number differs by more than 2.

        Args:
            pixels: (H, W, 3) uint8, RGB.
            size: width, height of the whole where `pixels` are a reduction of it.
        """
        width, height = size or (pixels.shape[1], pixels.shape[0])
        if max(height, width) > LONGEST_ASPECT * min(height, width):
            return self.square(Image.fromarray(pixels))
        square = self._cut_resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], (width, height))
        return square[0].contiguous().numpy()  # a view would keep all of the resized image while it waits

    def quick_squares(self, images: torch.Tensor) -> torch.Tensor:
        """quick_square() of images of one size, on their own device; not for such as are extremely long.

        Args:
            images: (N, 3, H, W) uint8, RGB.

        Returns:
            (N, size, size, 3) uint8.
        """
        size = images.shape[3], images.shape[2]
        if images.device.type == "cpu":
            return self._cut_resized(images, size).contiguous()
        squares = self._cut_resized(images.float(), size)  # only CPUs resize bytes
        return squares.round_().clamp_(0, 255).to(torch.uint8).contiguous()

    def _cut_resized(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(N, 3, H, W) to (N, size, size, 3), as if they were `size`: width, height."""
        width, height = _resized(size, self.short_side)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        resized = F.interpolate(images, (height, width), mode=self.interpolation, antialias=True)
        return resized[:, :, top : top + self.size, left : left + self.size].permute(0, 2, 3, 1)

    def normalise(self, batch: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Bytes to what the network takes, on the batch's own device.

        Args:
            batch: (N, size, size, 3) uint8.

        Returns:
            (N, 3, size, size) in channels_last memory order; worked out in float32, then rounded to `dtype`.
        """
        rows = batch.flatten(2)  # (N, size, 3 size), since what is only three long cannot be vectorised
        mean, std = (_row(values, self.size, batch.device) for values in (self.mean, self.std))
        pixels = torch.empty(rows.shape, dtype=dtype, device=batch.device)
        step = 1 if batch.device.type == "cpu" else max(1, len(batch))  # one image stays in the processor's cache
        for part, target in zip(torch.split(rows, step), torch.split(pixels, step), strict=True):
            target.copy_(part.float().div_(255).sub_(mean).div_(std))
        return pixels.view(batch.shape).permute(0, 3, 1, 2)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From the keys of timm's `pretrained_cfg`; what is missing there takes timm's own default.

        Raises:
            ModelFolderError: a transform that this package does not do.
        """
        _, height, width = config.get("input_size") or (3, 224, 224)
        crop_mode = config.get("crop_mode") or "center"
        if height != width or crop_mode != "center":
            raise ModelFolderError(
                f"this preprocessing cannot be done: crop mode {crop_mode} to {width} x {height}. "
                "Only the centre crop to a square is known here."
            )
        return cls(
            size=height,
            crop_pct=config.get("crop_pct") or 0.875,
            interpolation=config.get("interpolation") or "bicubic",
            mean=_three(config.get("mean") or IMAGENET_MEAN),
            std=_three(config.get("std") or IMAGENET_STD),
        )

    def to_config(self) -> dict[str, Any]:
        """The keys of timm's `pretrained_cfg`; the inverse of from_config."""
        return {
            "input_size": [3, self.size, self.size],
            "crop_pct": self.crop_pct,
            "crop_mode": "center",
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }


@lru_cache(maxsize=8)  # putting numbers onto a GPU waits for all that it has to do
def _row(colour: tuple[float, float, float], pixels: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(colour, device=device).repeat(pixels)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ModelFolderError(f"this preprocessing cannot be done: {values} is not one number a colour.")
    red, green, blue = values
    return red, green, blue


def _resized(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """As torchvision does: the long side is truncated, not rounded."""
    width, height = size
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _scaled(
    box: tuple[int, int, int, int], x: float, y: float, limit: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box of the resized image in the coordinates of the original, which Pillow wants it strictly inside of."""
    left, top, right, bottom = box
    return left * x, top * y, min(right * x, limit[0]), min(bottom * y, limit[1])
