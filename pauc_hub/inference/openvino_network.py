"""The folded ResNets run by OpenVINO, which is optional and on CPUs quicker than torch. N images, S side, D width."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pauc_hub.inference.folded_resnet import Block, Convolution, FoldedResNet

TO_CHANNELS_FIRST = [0, 3, 1, 2]


class OpenVinoNetwork(nn.Module):
    """(N, 3, S, S) pixels to (N, D) float32 features on the CPU, as the network it was compiled from."""

    def __init__(self, network: FoldedResNet, size: int, dtype: torch.dtype) -> None:
        """Compile for pixels of `size` x `size` in `dtype`, which also is what products are computed in.

        It will use as many threads as torch does now.
        """
        super().__init__()
        with _without_telemetry():
            self.library: Any = import_module("openvino")
        self.kind: Any = self.library.Type.bf16 if dtype is torch.bfloat16 else self.library.Type.f32
        settings = {
            "INFERENCE_PRECISION_HINT": self.kind,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the decoding threads want the same cores
        }
        with _own_signal_stack():
            self.compiled: Any = self.library.Core().compile_model(self._graph(network, size), "CPU", settings)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.permute(0, 2, 3, 1).contiguous()  # no copy: pixels lie channels_last
        array = (rows.view(torch.uint16) if rows.dtype is torch.bfloat16 else rows).numpy()  # numpy has no bfloat16
        request = self.compiled.create_infer_request()  # one a call, so that threads may call at the same time
        features = request.infer([self.library.Tensor(array, rows.shape, self.kind)])
        return torch.from_numpy(features[0])

    def _graph(self, network: FoldedResNet, size: int) -> Any:
        ops = import_module("openvino.opset13")
        pixels = ops.parameter([-1, size, size, 3], self.kind)
        x = ops.convert(ops.transpose(pixels, np.array(TO_CHANNELS_FIRST)), "f32")
        x = _convolve(ops, network.conv1, x)
        if network.pools:
            x = ops.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)  # strides, dilations, pads, kernel
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in stage:
                x = _pass(ops, cast(Block, block), x)
        return self.library.Model([ops.reduce_mean(x, np.array([2, 3]))], [pixels])


def _pass(ops: Any, block: Block, x: Any) -> Any:
    """What Block.forward does."""
    shortcut, y = x, x
    for convolution in block.downsample:
        shortcut = _convolve(ops, cast(Convolution, convolution), shortcut, relu=False)
    *convolutions, last = (part for part in block.children() if isinstance(part, Convolution))
    for convolution in convolutions:
        y = _convolve(ops, convolution, y)
    return _convolve(ops, last, y, shortcut=shortcut)


def _convolve(ops: Any, convolution: Convolution, x: Any, *, relu: bool = True, shortcut: Any = None) -> Any:
    """What Convolution.forward does; the compiler makes one operation of it."""
    weight, bias = convolution.weight.float().contiguous().numpy(), convolution.bias.float().view(1, -1, 1, 1).numpy()
    pads = [convolution.padding] * 2
    y = ops.add(ops.convolution(x, weight, [convolution.stride] * 2, pads, pads, [1, 1]), bias)
    y = y if shortcut is None else ops.add(y, shortcut)
    return ops.relu(y) if relu else y


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """`import openvino` tells Google Analytics of itself, unless the package for it seems not to be installed."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: importing it then fails
    try:
        yield
    finally:
        del sys.modules[name]


class _SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _own_signal_stack() -> Iterator[None]:
    """Where a processor has AMX, OpenVINO gives the thread a stack for signals, and frees it later though Python's
    handlers still run on it: Ctrl-C would then end in a segmentation fault. So the thread gets its former one back.
    """
    if sys.platform != "linux":
        yield
        return
    libc, former = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(former))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(former), None)
