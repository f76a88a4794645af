"""A network on an NVIDIA GPU without the processor telling the GPU every step anew. N images, S
side, D width.
"""

from threading import Lock
from typing import cast

import torch
from torch import Tensor, nn

# passes before the recording, in which libraries choose their algorithms and take their memory
WARM_UPS = 3


class CapturedNetwork(nn.Module):
    """The network, whose steps are recorded as a CUDA graph once two batches of one shape have come
    in a row.

    Decoding threads hold Python's lock for much of the time. Without the graph, each of some
    hundred steps a batch waits for it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._last_shape: torch.Size | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._pixels = self._features = torch.empty(0)  # what the graph reads and writes
        self._lock = Lock()

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) pixels to (N, D) features."""
        with self._lock:
            if self._graph is None and pixels.shape == self._last_shape:
                self._record(pixels)
            self._last_shape = pixels.shape
            if self._graph is None or pixels.shape != self._pixels.shape:
                return cast(Tensor, self.network(pixels))
            self._pixels.copy_(pixels)
            self._graph.replay()
            return self._features.clone()

    def _record(self, pixels: Tensor) -> None:
        """As torch's documentation has it: warm up on a stream of its own, then capture."""
        self._pixels = pixels.clone()
        stream = torch.cuda.Stream(pixels.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(pixels.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.network(self._pixels)
        torch.cuda.current_stream(pixels.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # others may use the GPU now
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._features = self.network(self._pixels)
        self._graph = graph
