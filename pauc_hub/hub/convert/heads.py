"""Another project's projection head as our projector: two linear layers with a ReLU between. W
backbone width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

BATCH_NORM_EPS = 1e-5


def read_projector(head: Mapping[str, Tensor], width: int) -> dict[str, Tensor] | None:
    """The tensors of models.projector.Projector that give what the head gives in evaluation mode,
    before unit length.

    Args:
        head: tensors by what follows the head's prefix: `0.weight`, `0.bias`, `1.running_mean`,
            `2.weight`, ….
        width: W, of the backbone's features.

    Returns:
        None where the head is something else: one layer, three, or hidden layers of another width.
    """
    if not all(key.split(".")[0].isdigit() for key in head):
        return None
    layers = [
        _layer(head, number) for number in sorted({key.split(".")[0] for key in head}, key=int)
    ]
    linear = [layer for layer in layers if layer["weight"].ndim == 2]
    norms = [layer for layer in layers if "running_mean" in layer]
    if len(linear) != 2 or len(norms) > 1 or len(linear) + len(norms) != len(layers):
        return None
    hidden, output = linear
    if hidden["weight"].shape != (width, width) or (norms and layers[1] is not norms[0]):
        return None
    weight, bias = hidden["weight"].float(), _bias(hidden)
    if norms:
        weight, bias = _fold(weight, bias, norms[0])
    return {
        "hidden.weight": weight,
        "hidden.bias": bias,
        "output.weight": output["weight"].float(),
        "output.bias": _bias(output),
    }


def _fold(weight: Tensor, bias: Tensor, norm: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A linear layer and the batch norm after it as one linear layer."""
    scale = norm["weight"].float() / (norm["running_var"].float() + BATCH_NORM_EPS).sqrt()
    return weight * scale.unsqueeze(1), (bias - norm["running_mean"].float()) * scale + norm[
        "bias"
    ].float()


def _layer(head: Mapping[str, Tensor], number: str) -> dict[str, Tensor]:
    prefix = f"{number}."
    return {
        key.removeprefix(prefix): value for key, value in head.items() if key.startswith(prefix)
    }


def _bias(layer: Mapping[str, Tensor]) -> Tensor:
    return layer["bias"].float() if "bias" in layer else torch.zeros(len(layer["weight"]))
