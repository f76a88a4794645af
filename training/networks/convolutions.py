"""Convolutions whose weights learn quickly on a CPU where the maps are small. N images, C channels,
H and W of a map.

For maps of 2 x 2, as the last stage of a ResNet has of views of 64 pixels, oneDNN takes 7 to 10
times as long for the gradient of 3 x 3 weights as a matrix product of the same size does, and for
maps of 1 x 1 seventy times (docs/LOG.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WEIGHTS_A_PLACE = 1 << 14  # of the map that comes out: from so many on, matrix products are quicker


class Convolution(nn.Conv2d):
    """torch's, with another way to the same gradient of the weights."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W)."""
        if not (torch.is_grad_enabled() and self._quickens(images)):
            return super().forward(images)
        weight, device = self.weight, images.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
            images, weight = images.to(kind), weight.to(kind)
        found: Tensor = _Convolved.apply(images, weight, self.stride, self.padding)
        return found

    def _quickens(self, images: Tensor) -> bool:
        plain = (
            self.bias is None
            and self.groups == 1
            and self.dilation == (1, 1)
            and self.padding_mode == "zeros"
        )
        if images.device.type != "cpu" or not plain or isinstance(self.padding, str):
            return False
        sizes = zip(images.shape[2:], self.kernel_size, self.stride, self.padding, strict=True)
        height, width = (
            (length + 2 * edge - kernel) // step + 1 for length, kernel, step, edge in sizes
        )
        return self.weight.numel() >= WEIGHTS_A_PLACE * height * width


def quickened(network: nn.Module) -> nn.Module:
    """The same network, of whose convolutions torch's own are of this kind now; names and weights
    stay.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = Convolution  # it has no more attributes than the other
    return network


class _Convolved(Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, stride=stride, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        below, _, _ = torch.ops.aten.convolution_backward(
            gradient,
            images,
            weight,
            None,
            ctx.stride,
            ctx.padding,
            (1, 1),
            False,
            (0, 0),
            1,
            (True, False, False),
        )
        return below, weight_gradient(images, gradient, weight, ctx.stride, ctx.padding), None, None


def weight_gradient(
    images: Tensor,
    gradient: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Of a convolution, one matrix product for each place of the kernel; nothing that pads is
    multiplied.

    Args:
        images: (N, C, H, W), what went in.
        gradient: (N, D, h, w), to what came out.
        weight: (D, C, kernel height, kernel width); the result has its shape and its order in
            memory.
    """
    found = torch.zeros_like(weight)
    above, below = gradient.permute(0, 2, 3, 1), images.permute(0, 2, 3, 1)  # channels last
    for row in range(weight.shape[2]):
        to_rows, from_rows = _met(row, images.shape[2], gradient.shape[2], stride[0], padding[0])
        for column in range(weight.shape[3]):
            to_columns, from_columns = _met(
                column, images.shape[3], gradient.shape[3], stride[1], padding[1]
            )
            out = above[:, to_rows, to_columns].flatten(0, 2)  # (places, D)
            into = below[:, from_rows, from_columns].flatten(0, 2)  # (places, C)
            found[:, :, row, column] = out.T @ into
    return found


def _met(tap: int, length: int, places: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Where one row (or column) of a kernel meets the image: places in what comes out, and in the
    image.

    Args:
        length: of the image; `places`: of what comes out.
    """
    # the first place at which the tap is not above the image
    first = max(0, -((tap - padding) // stride))
    last = min(places - 1, (length - 1 - tap + padding) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + tap - padding
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)
