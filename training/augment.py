"""The second half of a view, on the device: flip, jitter, greyscale, blur, normalise; each image with its own draw.

The first half, the random resized crop, is made where the image is decoded (data.py). N images, S side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = torch.tensor([0.299, 0.587, 0.114])
TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True)
class Augmentation:
    """MoCo v2's set; probabilities and strengths as torchvision names them.

    Attributes:
        jitter: largest change of brightness, contrast and saturation (factors 1 - j to 1 + j), and of hue (turns).
        blur_sigma: range of the blur's standard deviation, in pixels of a 224-pixel view; scaled with the side.
    """

    flip: float
    jitter: tuple[float, float, float, float]
    jitter_probability: float
    grey: float
    blur: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __call__(
        self, crops: Tensor, draws: torch.Generator, count: int | None = None, rows: slice = slice(None)
    ) -> Tensor:
        """(N, S, S, 3) uint8 crops to (N, 3, S, S) float32, channels_last, on the crops' device.

        Args:
            count: images to draw for, of which the crops are `rows`; all unless given.
        """
        count = len(crops) if count is None else count
        mirrored = flip(crops, _chosen(count, self.flip, draws)[rows])
        images = self._recolour(mirrored.float().div_(255), draws, count, rows)
        images = self._blur(images, draws, count, rows)
        mean, std = (torch.tensor(each, device=crops.device) for each in (self.mean, self.std))
        return images.sub_(mean).div_(std).permute(0, 3, 1, 2)  # a view: channels last is how the pixels lie

    def _recolour(self, images: Tensor, draws: torch.Generator, count: int, rows: slice) -> Tensor:
        brightness, contrast, saturation = (1 + reach * _signed(count, draws) for reach in self.jitter[:3])
        hue = self.jitter[3] * _signed(count, draws)
        still = ~_chosen(count, self.jitter_probability, draws)
        for factor in (brightness, contrast, saturation):
            factor[still] = 1.0
        hue[still] = 0.0
        saturation[_chosen(count, self.grey, draws)] = 0.0
        return recolour(images, brightness[rows], contrast[rows], saturation[rows], hue[rows])

    def _blur(self, images: Tensor, draws: torch.Generator, count: int, rows: slice) -> Tensor:
        blurred = _chosen(count, self.blur, draws)
        low, high = (edge * images.shape[1] / 224 for edge in self.blur_sigma)
        sigma = (low + (high - low) * torch.rand(count, generator=draws))[rows][blurred[rows]]
        chosen = blurred[rows].nonzero().squeeze(1).to(images.device)
        return images.index_copy(0, chosen, blur(images[chosen], sigma)) if len(chosen) else images


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen ones left to right. images: (N, S, S, 3); chosen: (N,) bool."""
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(2), images)


def recolour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Colour jitter in that order as one 3 x 4 matrix an image, so one pass over the pixels.

    Brightness, contrast and saturation are torchvision's; hue turns the colour about the grey axis (in YIQ), which
    keeps luma and differs a little from torchvision's turn in HSV. Values are clipped to [0, 1] once, at the end.

    Args:
        images: (N, S, S, 3) in [0, 1].
        brightness, contrast, saturation: (N,) factors; 1 changes nothing, saturation 0 makes grey.
        hue: (N,) in turns; 0 changes nothing.
    """
    device = images.device
    matrix, offset = (each.to(device) for each in colour_matrix(brightness, contrast, saturation, hue))
    pixels = images.flatten(1, 2)  # (N, S * S, 3)
    grey = offset * (pixels.mean(dim=1) @ LUMA.to(device))
    return torch.baddbmm(grey.view(-1, 1, 1), pixels, matrix.mT).clamp_(0, 1).view(images.shape)


def colour_matrix(brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, 3) matrices, and the (N,) share of the image's mean luma that is added to every channel."""
    cos, sin = torch.cos(2 * torch.pi * hue), torch.sin(2 * torch.pi * hue)
    one, zero = torch.ones_like(hue), torch.zeros_like(hue)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    turn = TO_YIQ.inverse() @ turn @ TO_YIQ
    saturate = saturation.view(-1, 1, 1) * torch.eye(3) + (1 - saturation).view(-1, 1, 1) * LUMA
    return turn @ saturate * (brightness * contrast).view(-1, 1, 1), brightness * (1 - contrast)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, one standard deviation an image, as two passes; edges are mirrored.

    Args:
        images: (N, S, S, 3).
        sigma: (N,) pixels, > 0. The window holds 3 sigma of the widest, and less than the image.
    """
    count, side, _, channels = images.shape
    radius = min(max(1, int(torch.ceil(3 * sigma.max()).item())), side - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets**2) / (2 * sigma.view(-1, 1) ** 2))
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0).to(images.device)
    planes = images.permute(0, 3, 1, 2).reshape(1, count * channels, side, side)
    padded = F.pad(planes, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, weights.view(-1, 1, 1, 2 * radius + 1), groups=count * channels)
    blurred = F.conv2d(rows, weights.view(-1, 1, 2 * radius + 1, 1), groups=count * channels)
    return blurred.view(count, channels, side, side).permute(0, 2, 3, 1)


def _chosen(count: int, probability: float, draws: torch.Generator) -> Tensor:
    return torch.rand(count, generator=draws) < probability


def _signed(count: int, draws: torch.Generator) -> Tensor:
    return 2 * torch.rand(count, generator=draws) - 1
