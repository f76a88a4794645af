"""Existing weights to train on from: put into a network; which of its blocks learn, and how fast
(method.md §5).
"""

import re
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from timm.models import group_parameters
from torch import nn

from pauc_hub.errors import UsageError
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.opening import open_model
from pauc_hub.models.timm_network import build_timm_network
from pauc_hub.training.networks.backbone import create_backbone

LEARNING_PART = 4  # the last quarter of the blocks learns, one at least
CLOSE = 1e-4  # of the largest feature, between the model's own network and this one


class Blocks(NamedTuple):
    """The stages of a convolutional network, or the blocks of a transformer, as timm divides them.

    Attributes:
        of: a parameter's name to its block, from 1 to `total`; 0 is what stands before the first,
            and what follows the last belongs to it.
    """

    of: dict[str, int]
    total: int


def blocks_of(backbone: nn.Module) -> Blocks:
    """By timm's own grouping, which it has for each network."""
    matcher: dict[str, Any] = cast(Any, backbone).group_matcher(coarse=True)
    depths: dict[str, int] = group_parameters(backbone, matcher, reverse=True)
    found = matcher["blocks"]
    patterns = (
        [found]
        if isinstance(found, str)
        else [pattern for pattern, suffix in found if suffix is None]
    )
    inside = {
        depth
        for name, depth in depths.items()
        if any(re.match(pattern, name) for pattern in patterns)
    }
    numbers = {depth: number for number, depth in enumerate(sorted(inside), 1)}
    count = len(numbers)
    return Blocks(
        {
            name: numbers.get(depth, 0 if not inside or depth < min(inside) else count)
            for name, depth in depths.items()
        },
        count,
    )


@cache
def block_count(architecture: str, size: int) -> int:
    """Stages or blocks of a network."""
    with torch.device("meta"):
        return blocks_of(create_backbone(architecture, size)).total


def default_freeze(architecture: str, size: int) -> int:
    """How many of the first blocks stay as they are: all but a quarter."""
    count = block_count(architecture, size)
    return count - max(1, round(count / LEARNING_PART))


def load_weights(backbone: nn.Module, model: str | ModelFolder, size: int) -> None:
    """Put the weights of a model into a network of its architecture.

    Args:
        model: what load() takes.
        size: side of the views, pixels.

    Raises:
        UsageError: the model's network computes something else with them, as with another pooling.
        PaucError: the model cannot be had.
    """
    folder = open_model(model)
    own: Any = build_timm_network(folder, size if size != folder.image_size else None)
    if getattr(own, "num_classes", 0):
        own.reset_classifier(0)
    device = next(backbone.parameters()).device
    try:
        backbone.load_state_dict(own.state_dict())
        same = _agree(backbone, own.to(device), size, device)
    except RuntimeError:
        same = False
    if not same:
        raise UsageError(
            f"weights_from='{folder.name}': its network is built with {folder.model_args}, "
            "unlike timm's "
            f"{folder.architecture}, and cannot be trained on. Take another model."
        )


@torch.no_grad()
def _agree(backbone: nn.Module, own: nn.Module, size: int, device: torch.device) -> bool:
    """Whether both give the same features of some image."""
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    # layer by layer, since batch norm may be at rest in a network that learns
    modes = [(layer, layer.training) for layer in backbone.modules()]
    mine, theirs = backbone.eval()(image), own.eval()(image)
    for layer, learning in modes:
        layer.training = learning
    return mine.shape == theirs.shape and bool(
        (mine - theirs).abs().max() <= CLOSE * theirs.abs().max()
    )
