"""What runs the network: torch, or the optional OpenVINO, which is quicker on CPUs."""

from importlib.util import find_spec

import torch

from pauc_hub.errors import UsageError
from pauc_hub.models.architectures import NETWORKS

BACKENDS = ("auto", "torch", "openvino")


def choose_backend(name: str, device: torch.device, architecture: str) -> str:
    """`auto` is OpenVINO where it is installed and can run the network, else torch.

    Returns:
        `torch` or `openvino`.

    Raises:
        UsageError: not one of auto, torch, openvino; or OpenVINO where it is not installed or cannot run the network.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown backend '{name}'. Use one of {', '.join(BACKENDS)}.")
    if name == "torch":
        return "torch"
    obstacle = _obstacle_to_openvino(device, architecture)
    if obstacle and name == "openvino":
        raise UsageError(f"--backend openvino cannot be used here: {obstacle}")
    return "torch" if obstacle else "openvino"


def _obstacle_to_openvino(device: torch.device, architecture: str) -> str | None:
    if device.type != "cpu":
        return f"it computes on the CPU, not on '{device}'. Give --device cpu, or use `auto` or `torch`."
    if architecture not in NETWORKS:
        return f"it runs {', '.join(NETWORKS)}, not '{architecture}'. Use `auto` or `torch`."
    if find_spec("openvino") is None:
        return "it is not installed. `pip install 'pauc-hub[openvino]'` does that; or use `auto` or `torch`."
    return None
