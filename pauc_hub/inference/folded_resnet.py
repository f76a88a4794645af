"""The ResNets for inference alone, in plain torch: neither timm nor torchvision is imported, which
takes seconds.

Batch norm is folded into the convolutions, and on a CPU the additions and ReLUs are too. N images,
S side, D width.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.models.architectures import NETWORKS

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # of a deep block's output over its width
EPSILON = 1e-5  # of timm's batch norms
NORM = ("weight", "bias", "running_mean", "running_var")

# What torch's compiler puts in for a convolution with its surroundings on a CPU. Private, so only
# speed may rest on it.
CONVOLVE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
CONVOLVE_ONTO: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise_", None)
HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
MULTIPLIES_BF16: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)


class FoldedConvolution(nn.Module):
    """A convolution that had a batch norm behind it, and what follows: the shortcut added, then
    ReLU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(outputs, inputs, kernel, kernel), requires_grad=False
        )
        self.bias = nn.Parameter(torch.empty(outputs), requires_grad=False)
        self.stride, self.padding = stride, kernel // 2

    def forward(self, x: Tensor, *, relu: bool = True, shortcut: Tensor | None = None) -> Tensor:
        """(N, C, S, S) to (N, C', S / stride, S / stride); may write over `shortcut`."""
        if can_fuse(x):
            return self._fused(x, relu, shortcut)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        y = y if shortcut is None else y.add_(shortcut)
        return y.relu_() if relu else y

    def _fused(self, x: Tensor, relu: bool, shortcut: Tensor | None) -> Tensor:
        """One pass over memory instead of three: 2.3 times the speed of a ResNet-50 in bf16 with
        AMX.
        """
        shape = [self.padding] * 2, [self.stride] * 2, [1, 1], 1
        then: tuple[str, list[float], None] = "relu" if relu else "none", [], None
        if shortcut is None:
            return cast(Tensor, CONVOLVE(x, self.weight, self.bias, *shape, *then))
        return cast(
            Tensor,
            CONVOLVE_ONTO.binary(shortcut, x, self.weight, self.bias, *shape, "add", 1.0, *then),
        )


class FoldedBlock(nn.Module):
    """Convolutions around which the input takes a shortcut; under timm's names."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        reshapes = stride != 1 or inputs != outputs
        self.downsample = nn.ModuleList(
            [FoldedConvolution(inputs, outputs, 1, stride)] if reshapes else []
        )

    def shortcut(self, x: Tensor) -> Tensor:
        for convolution in self.downsample:
            x = convolution(x, relu=False)
        return x


class ShallowBlock(FoldedBlock):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        self.conv1 = FoldedConvolution(inputs, width, 3, stride)
        self.conv2 = FoldedConvolution(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x), shortcut=self.shortcut(x))
        return y


class DeepBlock(FoldedBlock):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, EXPANSION * width, stride)
        self.conv1 = FoldedConvolution(inputs, width, 1)
        self.conv2 = FoldedConvolution(width, width, 3, stride)
        self.conv3 = FoldedConvolution(width, EXPANSION * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2(self.conv1(x)), shortcut=self.shortcut(x))
        return y


class FoldedResNet(nn.Module):
    """(N, 3, S, S) pixels of any type to (N, D) float32 features, as timm's network of that name in
    evaluation mode.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, architecture: str) -> None:
        super().__init__()
        depths, deep, stem = NETWORKS[architecture]
        block, expansion = (DeepBlock, EXPANSION) if deep else (ShallowBlock, 1)
        self.conv1 = FoldedConvolution(3, WIDTHS[0], stem.kernel, stem.stride)
        self.pools = stem.pools
        self.width = WIDTHS[-1] * expansion
        inputs = WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
            blocks = [block(inputs, width, stride=1 if stage == 1 else 2)]
            inputs = width * expansion
            blocks += [block(inputs, width, stride=1) for _ in range(depth - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.conv1(pixels.to(self.conv1.weight.dtype))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1) if self.pools else x
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean(dim=(2, 3), dtype=torch.float32)


def build_network(
    architecture: str, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> FoldedResNet:
    """The network of a model folder, its weights kept in `dtype`.

    Args:
        architecture: a key of NETWORKS.
        tensors: timm's, by timm's names.

    Raises:
        RuntimeError: as load_state_dict() does, where the tensors are those of another network.
    """
    network = FoldedResNet(architecture).to(dtype)
    network.load_state_dict(fold_batch_norm(tensors, dtype))
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def fold_batch_norm(
    tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Convolutions with a bias that do what each did with the batch norm behind it; worked out in
    float32.

    Tensors that belong to neither stay as they are, for load_state_dict() to complain of.
    """
    rest, folded = dict(tensors), dict[str, Tensor]()
    for name in [name for name, tensor in tensors.items() if tensor.ndim == 4]:
        convolution = name.removesuffix(".weight")
        norm = _norm_behind(convolution)
        if any(f"{norm}.{part}" not in rest for part in NORM):
            continue
        gain, bias, mean, variance = (rest.pop(f"{norm}.{part}").double() for part in NORM)
        rest.pop(f"{norm}.num_batches_tracked", None)
        # float64 for these few; for the weights it gains nothing
        scale = gain / (variance + EPSILON).sqrt()
        folded[name] = (rest.pop(name).float() * scale.float()[:, None, None, None]).to(dtype)
        folded[f"{convolution}.bias"] = (bias - mean * scale).to(dtype)
    return folded | rest


def _norm_behind(convolution: str) -> str:
    """`layer1.0.conv2` to `layer1.0.bn2`, `layer2.0.downsample.0` to `layer2.0.downsample.1`."""
    place, _, last = convolution.rpartition(".")
    norm = "1" if last == "0" else last.replace("conv", "bn")
    return f"{place}.{norm}" if place else norm


def can_fuse(x: Tensor) -> bool:
    """Whether this torch, on this processor, has a convolution that does in one what follows it as
    well.
    """
    if x.device.type != "cpu" or CONVOLVE is None or CONVOLVE_ONTO is None:
        return False
    if x.dtype is torch.bfloat16:
        return MULTIPLIES_BF16 is not None and bool(MULTIPLIES_BF16())
    return x.dtype is torch.float32 and HAS_ONEDNN
