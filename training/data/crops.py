"""Random resized crops, antialiased as Pillow's: of one picture in a thread, or of a batch on the
device.

N images of a batch, H height, W width, S side of the view.
"""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.images.jpeg import Picture, Pixels, size_of
from pauc_hub.training.data.views import HIGHEST_ASPECT, ViewDraws

EVERY = slice(None)
Boxes = npt.NDArray[np.int64]  # (N, 4): left, top, right, bottom; pixels


def boxes(draws: ViewDraws, width: int, height: int, rows: slice = EVERY) -> Boxes:
    """Where images of one size are cut: at the first of ten tries that fits, as torchvision's
    RandomResizedCrop does.

    Where none fits it is the central piece whose aspect is nearest.
    """
    area, aspect, place = (each.numpy()[rows] for each in (draws.area, draws.aspect, draws.place))
    area = area * (width * height)
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))  # (N, 10)
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.argmax(axis=1)[:, None]
    sides = np.concatenate(
        [np.take_along_axis(each, first, axis=1) for each in (widths, heights)], axis=1
    )
    room = np.array([width, height]) - sides
    start = np.floor(place * (room + 1))
    found = np.concatenate([start, start + sides], axis=1).astype(np.int64)
    found[~fits.any(axis=1)] = _central_box(width, height)
    return found


def _central_box(width: int, height: int) -> tuple[int, int, int, int]:
    w = max(1, min(width, round(height * HIGHEST_ASPECT)))
    h = max(1, min(height, round(width * HIGHEST_ASPECT)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def cut(picture: Picture, draws: ViewDraws, row: int) -> Pixels:
    """The crop of one picture; Pillow's to the last bit of an image, and of an array torch's: by 1
    it may differ.

    Args:
        row: the picture's, of the draws.

    Returns:
        (S, S, 3) uint8.
    """
    size = draws.size
    left, top, right, bottom = boxes(draws, *size_of(picture), slice(row, row + 1))[0].tolist()
    if isinstance(picture, Image.Image):
        cropped = picture.crop((left, top, right, bottom))
        pixels = np.asarray(cropped.resize((size, size), Image.Resampling.BILINEAR))
    else:
        planes = torch.from_numpy(picture[top:bottom, left:right]).permute(2, 0, 1)[None]
        resized = F.interpolate(planes, (size, size), mode="bilinear", antialias=True)
        pixels = resized[0].permute(1, 2, 0).numpy()
    return pixels[:, ::-1] if draws.mirrored[row] else pixels


def cut_batch(images: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """The crops of a batch as two matrix products, on its own device; no number differs from
    Pillow's by more than 1.

    Args:
        images: (N, H, 3, W) uint8; in this order both products read and write memory as it lies.
        boxes: (N, 4) left, top, right, bottom.
        mirrored: (N,) bool.

    Returns:
        (N, 3, S, S) uint8, a view of (N, S, 3, S).
    """
    count, height, _, width = images.shape
    left, top, right, bottom = boxes.float().unbind(1)
    columns = _weights(left, right, width, size)
    columns = torch.where(mirrored.view(-1, 1, 1), columns.flip(1), columns)
    narrow = torch.bmm(images.flatten(1, 2).float(), columns.mT)  # (N, 3 H, S)
    crops = torch.bmm(_weights(top, bottom, height, size), narrow.view(count, height, 3 * size))
    return (
        crops.round_().clamp_(0, 255).to(torch.uint8).view(count, size, 3, size).permute(0, 2, 1, 3)
    )


def _weights(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """A triangle about each new pixel's middle, as wide as the scale, of what lies inside the crop;
    rows sum to 1.

    Args:
        start, stop: (N,) edges of the crop, pixels.
        length: of the image.

    Returns:
        (N, S, length).
    """
    scale = ((stop - start) / size).view(-1, 1, 1)
    middle = start.view(-1, 1, 1) + scale * (torch.arange(size, device=start.device) + 0.5).view(
        1, -1, 1
    )
    pixel = torch.arange(length, device=start.device) + 0.5
    inside = (pixel > start.view(-1, 1, 1)) & (pixel < stop.view(-1, 1, 1))
    near = ((pixel - middle).abs_().div_(-scale.clamp(min=1)).add_(1)).clamp_(min=0).mul_(inside)
    return near.div_(near.sum(dim=2, keepdim=True))
