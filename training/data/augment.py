"""The second half of a view, on the device: jitter, greyscale, blur, normalise; each image as was
drawn for it.

The first half, the random resized crop, is made from the image itself (crops.py). N images, S side.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.device import send
from pauc_hub.training.data.views import ViewDraws

LUMA = torch.tensor([0.299, 0.587, 0.114])
TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)


@dataclass(frozen=True)
class Augmentation:
    """What is done to all images alike.

    Attributes:
        mean, std: of the channels, for normalising.
        largest_blur: standard deviation that is ever drawn, as a share of the view's side.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    largest_blur: float

    def __call__(self, crops: Tensor, draws: ViewDraws) -> Tensor:
        """(N, 3, S, S) uint8 crops to float32, channels_last, on the crops' device."""
        images = crops.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        images = recolour(images, draws.brightness, draws.contrast, draws.saturation, draws.hue)
        chosen = draws.sigma.nonzero().squeeze(1)
        if len(chosen):
            rows = send(chosen, images.device)
            largest = self.largest_blur * images.shape[-1]
            images.index_copy_(0, rows, blur(images[rows], draws.sigma[chosen], largest))
        scale, shift = _normalisation(self.mean, self.std, images.device)
        return torch.addcmul(
            shift, images, scale, out=torch.empty_like(images, memory_format=torch.channels_last)
        )


@lru_cache(maxsize=8)  # putting numbers onto a GPU waits for all that it has to do
def _normalisation(
    mean: tuple[float, float, float], std: tuple[float, float, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(1, 3, 1, 1) factor and summand that do what taking off the mean and dividing by `std`
    does.
    """
    scale = 1 / torch.tensor(std, dtype=torch.float64)
    shift = -torch.tensor(mean, dtype=torch.float64) * scale
    return scale.float().view(1, 3, 1, 1).to(device), shift.float().view(1, 3, 1, 1).to(device)


def recolour(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> Tensor:
    """Colour jitter in that order as one 3 x 4 matrix an image, so one pass over the pixels.

    Brightness, contrast and saturation are torchvision's; hue turns the colour about the grey axis
    (in YIQ), which keeps luma and differs a little from torchvision's turn in HSV. Values are
    clipped to [0, 1] once, at the end.

    Args:
        images: (N, 3, S, S) in [0, 1].
        brightness, contrast, saturation: (N,) factors; 1 changes nothing, saturation 0 makes grey.
        hue: (N,) in turns; 0 changes nothing.
    """
    matrix, offset = colour_matrix(brightness, contrast, saturation, hue)
    pixels = images.flatten(2)  # (N, 3, S * S)
    own_luma = send(offset.view(-1, 1, 1) * LUMA, images.device)  # (N, 1, 3)
    grey = torch.bmm(own_luma, pixels.mean(dim=2, keepdim=True))
    return torch.baddbmm(grey, send(matrix, images.device), pixels).clamp_(0, 1).view(images.shape)


def colour_matrix(
    brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> tuple[Tensor, Tensor]:
    """(N, 3, 3) matrices, and the (N,) share of the image's mean luma that is added to every
    channel.
    """
    cos, sin = torch.cos(2 * torch.pi * hue), torch.sin(2 * torch.pi * hue)
    one, zero = torch.ones_like(hue), torch.zeros_like(hue)
    rows = [one, zero, zero, zero, cos, sin, zero, -sin, cos]  # from red to yellow, as HSV counts
    turn = torch.stack(rows, dim=1).view(-1, 3, 3)
    turn = TO_YIQ.inverse() @ turn @ TO_YIQ
    saturate = saturation.view(-1, 1, 1) * torch.eye(3) + (1 - saturation).view(-1, 1, 1) * LUMA
    return turn @ saturate * (brightness * contrast).view(-1, 1, 1), brightness * (1 - contrast)


def blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur, one standard deviation an image, as two passes; edges are mirrored.

    Args:
        images: (N, 3, S, S).
        sigma: (N,) pixels, > 0, on the CPU.
        largest: sigma that is ever drawn. The window holds 3 of it, so that no image's depends on
            another's, and less than the image.
    """
    count, channels, side, _ = images.shape
    # rounded: a share of a side times the side is a hair off
    radius = min(max(1, math.ceil(round(3 * largest, 6))), side - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets**2) / (2 * sigma.view(-1, 1) ** 2))
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    weights = send(weights, images.device)
    padded = F.pad(images.reshape(1, count * channels, side, side), (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, weights.view(-1, 1, 1, 2 * radius + 1), groups=count * channels)
    blurred = F.conv2d(rows, weights.view(-1, 1, 2 * radius + 1, 1), groups=count * channels)
    return blurred.view(images.shape)
