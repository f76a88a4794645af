"""The evaluation transform in two halves: bytes per image, on any thread; numbers per batch, on the
device.
"""

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
CROP_MODES = ("center", "squash", "border")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# past it the whole resized strip is never made: of a 1 x 30000 image it would take 6 GB
LONGEST_ASPECT = 32


@dataclass(frozen=True)
class Preprocessing:
    """What timm's own evaluation transform does, to the last bit unless the sides are more than
    LONGEST_ASPECT : 1.
    """

    size: int
    """Side of the square that the network sees, in pixels."""
    crop_pct: float = 0.875
    """Side of the square / side of the resized image that `crop_mode` names; in (0, 2]."""
    interpolation: str = "bicubic"
    """A key of INTERPOLATIONS."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of red, green and blue in [0, 1]; subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Of the same, > 0; divided by."""
    crop_mode: str = "center"
    """`center` resizes the short side; `squash` both, whatever the aspect; `border` the long one.

    The square is cut out of the centre, and what is missing is filled: by `border` with the mean
    colour, else black.
    """

    def __post_init__(self) -> None:
        problems = [
            f"{field} is {getattr(self, field)!r}, not {allowed}"
            for field, allowed, fits in self._limits()
            if not fits
        ]
        if problems:
            raise ModelFolderError(f"this preprocessing cannot be done: {'; '.join(problems)}.")

    def _limits(self) -> list[tuple[str, str, bool]]:
        return [
            ("size", "a positive number of pixels", self.size >= 1),
            ("crop_pct", "in (0, 2]", 0 < self.crop_pct <= 2),
            ("crop_mode", f"one of {', '.join(CROP_MODES)}", self.crop_mode in CROP_MODES),
            (
                "interpolation",
                f"one of {', '.join(INTERPOLATIONS)}",
                self.interpolation in INTERPOLATIONS,
            ),
            ("std", "positive", min(self.std) > 0),
        ]

    @property
    def short_side(self) -> int:
        """Of the resized image, before the crop; in pixels, rounded as timm does. With `border` it
        is the long side.
        """
        return math.floor(self.size / self.crop_pct)

    def square(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Resize, then cut out the centre.

        Args:
            image: mode RGB, of any size from 1 x 1.

        Returns:
            (size, size, 3) uint8.
        """
        if image.mode != "RGB":
            raise ValueError(
                f"square() takes RGB images, not mode {image.mode}; read_image() makes them"
            )
        resample = INTERPOLATIONS[self.interpolation]
        width, height = self._resized(image.size)
        left, top = self._offset(width), self._offset(height)
        if max(image.size) > LONGEST_ASPECT * min(image.size):
            seen = (
                max(left, 0),
                max(top, 0),
                min(left + self.size, width),
                min(top + self.size, height),
            )
            source = _scaled(seen, image.width / width, image.height / height, image.size)
            part = image.resize((seen[2] - seen[0], seen[3] - seen[1]), resample, box=source)
            return self._filled(part, max(-left, 0), max(-top, 0))
        return self._filled(image.resize((width, height), resample), -left, -top)

    def _filled(self, part: Image.Image, x: int, y: int) -> npt.NDArray[np.uint8]:
        """The square with the part at that place; what lies outside is cut off."""
        square = Image.new("RGB", (self.size, self.size), self._fill)
        square.paste(part, (x, y))
        return np.array(square)

    def quick_square(
        self, pixels: npt.NDArray[np.uint8], size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        """square() in half the time, by torch: no number differs by more than 2.

        Args:
            pixels: (H, W, 3) uint8, RGB.
            size: width, height of the whole where `pixels` are a reduction of it.
        """
        width, height = size or (pixels.shape[1], pixels.shape[0])
        too_long = max(height, width) > LONGEST_ASPECT * min(height, width)
        # torch rounds otherwise where one side grows and the other shrinks: up to 16 levels
        if too_long or self.crop_mode == "squash":
            return self.square(Image.fromarray(pixels))
        square = self._cut_resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], (width, height))
        # a view would keep all of the resized image while it waits
        return square[0].contiguous().numpy()

    def quick_squares(self, images: torch.Tensor) -> torch.Tensor:
        """quick_square() of images of one size, on their own device; not for such as are extremely
        long.

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
        width, height = self._resized(size)
        left, top = self._offset(width), self._offset(height)
        resized = F.interpolate(images, (height, width), mode=self.interpolation, antialias=True)
        seen = resized[
            :, :, max(top, 0) : top + self.size, max(left, 0) : left + self.size
        ].permute(0, 2, 3, 1)
        if seen.shape[1:3] == (self.size, self.size):
            return seen
        squares = seen.new_tensor(self._fill).repeat(len(seen), self.size, self.size, 1)
        y, x = max(-top, 0), max(-left, 0)
        squares[:, y : y + seen.shape[1], x : x + seen.shape[2]] = seen
        return squares

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the whole image once resized, rounded as timm does."""
        width, height = size
        side = self.short_side
        if self.crop_mode == "squash":
            return side, side
        if self.crop_mode == "border":
            ratio = max(size) / side
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        # the long side is truncated, not rounded, as torchvision does
        if width <= height:
            return side, int(side * height / width)
        return int(side * width / height), side

    def _offset(self, extent: int) -> int:
        """Where the square begins in a resized image of that width or height; before it if it is
        smaller.
        """
        return (
            round((extent - self.size) / 2) if extent >= self.size else -((self.size - extent) // 2)
        )

    @property
    def _fill(self) -> tuple[int, int, int]:
        """Colour of what the image does not cover."""
        if self.crop_mode != "border":
            return 0, 0, 0
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def normalise(self, batch: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Bytes to what the network takes, on the batch's own device.

        Args:
            batch: (N, size, size, 3) uint8.

        Returns:
            (N, 3, size, size) in channels_last memory order; worked out in float32, then rounded to
            `dtype`.
        """
        # (N, size, 3 size), since what is only three long cannot be vectorised
        rows = batch.flatten(2)
        mean, std = (_row(values, self.size, batch.device) for values in (self.mean, self.std))
        pixels = torch.empty(rows.shape, dtype=dtype, device=batch.device)
        # one image stays in the processor's cache
        step = 1 if batch.device.type == "cpu" else max(1, len(batch))
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
        if height != width:
            raise ModelFolderError(
                f"this preprocessing cannot be done: it makes images of {width} x {height}, and "
                "only squares are known."
            )
        return cls(
            size=height,
            crop_pct=config.get("crop_pct") or 0.875,
            crop_mode=config.get("crop_mode") or "center",
            interpolation=config.get("interpolation") or "bicubic",
            mean=_three(config.get("mean") or IMAGENET_MEAN),
            std=_three(config.get("std") or IMAGENET_STD),
        )

    def to_config(self) -> dict[str, Any]:
        """The keys of timm's `pretrained_cfg`; the inverse of from_config."""
        return {
            "input_size": [3, self.size, self.size],
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }


@lru_cache(maxsize=8)  # putting numbers onto a GPU waits for all that it has to do
def _row(colour: tuple[float, float, float], pixels: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(colour, device=device).repeat(pixels)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ModelFolderError(
            f"this preprocessing cannot be done: {values} is not one number a colour."
        )
    red, green, blue = values
    return red, green, blue


def _scaled(
    box: tuple[int, int, int, int], x: float, y: float, limit: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box of the resized image in the coordinates of the original, which Pillow wants it strictly
    inside of.
    """
    left, top, right, bottom = box
    return left * x, top * y, min(right * x, limit[0]), min(bottom * y, limit[1])
