"""When a network is recorded as a CUDA graph, and what then comes out: by stand-ins, and on a
GPU.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from pauc_hub.inference.cuda_graph import CapturedNetwork


class Network(nn.Module):
    """Mean of each colour; counts how often it is run step by step."""

    runs = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.runs += 1
        return pixels.mean(dim=(2, 3))


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        pass


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> CapturedNetwork:
    """With a graph that does again, on the same memory, what was recorded."""
    captured = CapturedNetwork(Network())

    class Graph:
        def replay(self) -> None:
            captured._features.copy_(captured._pixels.mean(dim=(2, 3)))

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **options: nullcontext())
    return captured


def colour(captured: CapturedNetwork, value: float, images: int) -> list[float]:
    found: list[float] = captured(torch.full((images, 3, 4, 4), float(value)))[:, 0].tolist()
    return found


def test_is_recorded_when_a_shape_comes_twice_and_used_for_that_shape_alone(
    captured: CapturedNetwork,
) -> None:
    assert colour(captured, 1, images=2) == [1] * 2
    assert colour(captured, 2, images=3) == [2] * 3
    # nothing recorded for one image alone, nor for the last batch
    assert captured.network.runs == 2
    assert colour(captured, 3, images=3) == [3] * 3
    recorded = captured.network.runs
    assert colour(captured, 4, images=3) == [4] * 3
    assert captured.network.runs == recorded
    assert colour(captured, 5, images=2) == [5] * 2
    assert colour(captured, 6, images=2) == [6] * 2
    assert captured.network.runs == recorded + 2
    assert colour(captured, 7, images=3) == [7] * 3


def test_results_stay_what_they_are_when_the_next_batch_comes(captured: CapturedNetwork) -> None:
    batches = [torch.full((2, 3, 4, 4), float(value)) for value in range(5)]
    features = [captured(batch) for batch in batches]
    assert [float(found[0, 0]) for found in features] == [0, 1, 2, 3, 4]
    assert [float(batch[0, 0, 0, 0]) for batch in batches] == [0, 1, 2, 3, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_graph_gives_what_the_network_gives() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network = network.cuda().eval().requires_grad_(False)
    captured = CapturedNetwork(network)
    batches = [torch.randn(count, 3, 32, 32, device="cuda") for count in (4, 4, 4, 2, 4)]
    features = [captured(batch) for batch in batches]
    assert captured._graph is not None
    for found, batch in zip(features, batches, strict=True):
        torch.testing.assert_close(found, network(batch))
