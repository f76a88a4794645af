"""The same network run by OpenVINO: its features against torch's, and that it keeps quiet about it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pauc_hub.inference.folded_resnet import FoldedResNet, build_network
from pauc_hub.inference.model import Model, load
from pauc_hub.inference.openvino_network import OpenVinoNetwork
from pauc_hub.models.architectures import NETWORKS

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="needs OpenVINO (extra `openvino`)")

SIDE = 65


@pytest.fixture(scope="module", autouse=True)
def _deterministic() -> Iterator[None]:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        yield


def folded(architecture: str) -> FoldedResNet:
    """With batch norms that change something: timm's own begin with residual branches that are zero."""
    backbone = timm.create_model(architecture, pretrained=False, num_classes=0).eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)
    return build_network(architecture, backbone.state_dict(), torch.float32)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, SIDE, SIDE).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_gives_the_features_of_torch(architecture: str, pixels: torch.Tensor) -> None:
    network = folded(architecture)
    features, expected = OpenVinoNetwork(network, SIDE, torch.float32)(pixels), network(pixels)
    assert features.dtype == torch.float32
    assert features.shape == expected.shape
    assert (features - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.fixture(scope="module")
def shallow() -> OpenVinoNetwork:
    return OpenVinoNetwork(folded("resnet18"), SIDE, torch.float32)


def test_any_number_of_images_in_any_order_of_memory(shallow: OpenVinoNetwork, pixels: torch.Tensor) -> None:
    together = shallow(pixels)
    assert torch.allclose(shallow(pixels[1:2]), together[1:2], atol=1e-5)
    assert torch.allclose(shallow(pixels.contiguous()), together, atol=1e-5)
    assert not torch.allclose(together[:1], together[1:2], atol=1e-2)


def test_threads_may_call_at_the_same_time(shallow: OpenVinoNetwork) -> None:
    batches = list(torch.randn(8, 2, 3, SIDE, SIDE))
    expected = [shallow(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        features = list(pool.map(shallow, batches))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(features, expected, strict=True))


def test_uses_as_many_threads_as_torch() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = OpenVinoNetwork(folded("resnet18"), SIDE, torch.float32)
    finally:
        torch.set_num_threads(before)
    assert network.compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, str], Model]:
    cases = [(backend, precision) for backend in ("torch", "openvino") for precision in ("fp32", "bf16")]
    return {
        (backend, precision): load("pauc_resnet18", device="cpu", precision=precision, backend=backend)
        for backend, precision in cases
    }


def test_is_chosen_where_it_is_installed(models: dict[tuple[str, str], Model]) -> None:
    assert {model.backend for (name, _), model in models.items() if name == "torch"} == {"torch"}
    assert {model.backend for (name, _), model in models.items() if name == "openvino"} == {"openvino"}
    chosen = load("pauc_resnet18", device="cpu")
    assert chosen.backend == "openvino"
    assert isinstance(chosen.network, OpenVinoNetwork)


def test_embeddings_are_as_near_as_the_documents_say(
    models: dict[tuple[str, str], Model], picture: Callable[[int, int], Image.Image]
) -> None:
    """Beside torch's fp32: 1e-5 of the largest number, and a cosine of at least 0.9995 in bf16; docs/embedding.md."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    images = [*(picture(90 + 7 * i, 120 - 5 * i) for i in range(16)), *noise]
    exact, same, rough = (
        torch.from_numpy(models[case].embed(images))
        for case in (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    )
    assert (same - exact).abs().max() < 1e-5 * exact.abs().max()
    assert F.cosine_similarity(rough, exact).min() >= 0.9995
    assert not torch.allclose(rough, exact, atol=1e-5)


def test_projections_too(models: dict[tuple[str, str], Model]) -> None:
    squares = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
    ours, expected = (models[backend, "fp32"].encode(squares, "projection") for backend in ("openvino", "torch"))
    assert torch.allclose(ours, expected, atol=1e-5)


def test_nobody_is_told_of_its_use(tmp_path: Path) -> None:
    """With `openvino_telemetry` installed, `import openvino` would send a message to Google at once."""
    (tmp_path / "openvino_telemetry.py").write_text("print('telemetry imported')")
    code = (
        "import sys; from pauc_hub.inference.model import load;"
        "print(load('pauc_resnet18', device='cpu', backend='openvino').backend);"
        "import openvino_telemetry"  # whoever asks for it afterwards finds it
    )
    settings = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "openvino\ntelemetry imported\n"


def test_signals_keep_the_stack_they_had() -> None:
    """OpenVINO gives the thread one of its own, and frees it later: Ctrl-C would end in a segmentation fault."""
    program = (
        "import ctypes\n"
        "from pauc_hub.inference.model import load\n"
        "def stack():\n"
        "    found = (ctypes.c_uint64 * 3)()\n"
        "    ctypes.CDLL(None).sigaltstack(None, found)\n"
        "    return found[0]\n"
        "before = stack()\n"
        "load('pauc_resnet18', device='cpu', backend='openvino')\n"
        "print(stack() == before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
