"""What runs the network: what `auto` means where, and what is refused in one line."""

import pytest
import torch

from pauc_hub.errors import UsageError
from pauc_hub.inference import backend as module
from pauc_hub.inference.backend import choose_backend
from pauc_hub.models.architectures import NETWORKS

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    there: bool = getattr(request, "param", True)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if there and name == "openvino" else None)


@pytest.mark.parametrize(
    ("installed", "device", "architecture", "backend"),
    [
        (True, CPU, "resnet50", "openvino"),
        (True, CPU, "pauc_resnet18_cifar", "openvino"),
        (True, GPU, "resnet50", "torch"),
        (True, CPU, "convnext_tiny", "torch"),
        (False, CPU, "resnet50", "torch"),
    ],
    indirect=["installed"],
)
def test_auto_is_openvino_where_it_can(installed: None, device: torch.device, architecture: str, backend: str) -> None:
    assert choose_backend("auto", device, architecture) == backend
    assert choose_backend("torch", device, architecture) == "torch"
    if backend == "openvino":
        assert choose_backend("openvino", device, architecture) == "openvino"


UNKNOWN = "unknown backend 'onnx'. Use one of auto, torch, openvino."
CANNOT = "--backend openvino cannot be used here: "
NOT_THERE = "it computes on the CPU, not on 'cuda:0'. Give --device cpu, or use `auto` or `torch`."
NOT_THAT = f"it runs {', '.join(NETWORKS)}, not 'vit_b'. Use `auto` or `torch`."
NOT_INSTALLED = "it is not installed. `pip install 'pauc-hub[openvino]'` does that; or use `auto` or `torch`."


@pytest.mark.parametrize(
    ("installed", "name", "device", "architecture", "message"),
    [
        (True, "onnx", CPU, "resnet18", UNKNOWN),
        (True, "openvino", GPU, "resnet18", CANNOT + NOT_THERE),
        (True, "openvino", CPU, "vit_b", CANNOT + NOT_THAT),
        (False, "openvino", CPU, "resnet18", CANNOT + NOT_INSTALLED),
    ],
    indirect=["installed"],
)
def test_what_cannot_be_is_refused(
    installed: None, name: str, device: torch.device, architecture: str, message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        choose_backend(name, device, architecture)
    assert str(refusal.value) == message
