"""The optimisers of the M-step, by name; biases and norms are spared weight decay, and LARS'
adaptation too.
"""

from collections import defaultdict

import torch
from timm.optim.lars import Lars
from torch import nn

from pauc_hub.training.config import Config
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.networks.pretrained import blocks_of

MOMENTUM = 0.9  # of SGD and LARS


def new_optimiser(encoder: nn.Module, config: Config) -> torch.optim.Optimizer:
    """For the encoder's parameters, where they lie now; fused, which on a CPU gives the same
    numbers.

    Those of an encoder that starts from existing weights learn at a share of the rate, `scale` of
    their group, and those of its first blocks not at all.
    """
    groups = []
    for scale, parameters in _scaled(encoder, config):
        matrices = {
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": config.weight_decay,
        }
        vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        # LARS of You et al. 2017
        adapted = {"always_adapt": True} if config.optimiser == "lars" else {}
        groups += [
            group | {"scale": scale} for group in (matrices | adapted, vectors) if group["params"]
        ]
    match config.optimiser:
        case "lars":
            return Lars(groups, lr=config.peak_lr, momentum=MOMENTUM)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.peak_lr, fused=True)
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=MOMENTUM, fused=True)


def let_learn(encoder: Encoder, config: Config, epoch: int) -> None:
    """Freeze what keeps the weights it started from in epoch `epoch` (from 0): at first all but the
    projector.
    """
    depths = blocks_of(encoder.backbone).of
    started = epoch >= config.projector_epochs
    for name, parameter in encoder.backbone.named_parameters():
        parameter.requires_grad_(started and _learns(depths[name], config))


def _learns(depth: int, config: Config) -> bool:
    """Whether the block keeps its weights; what stands before the first one does with that."""
    return depth > (config.freeze or 0) or config.freeze == 0


def _scaled(encoder: nn.Module, config: Config) -> list[tuple[float, list[nn.Parameter]]]:
    """Parameters that learn, with their share of the rate."""
    if not config.weights_from:
        return [(1.0, list(encoder.parameters()))]
    assert isinstance(encoder, Encoder)
    blocks, scaled = blocks_of(encoder.backbone), defaultdict[float, list[nn.Parameter]](list)
    for name, parameter in encoder.backbone.named_parameters():
        if _learns(depth := blocks.of[name], config):
            scaled[config.backbone_rate * config.layer_decay ** (blocks.total - depth)].append(
                parameter
            )
    return [*scaled.items(), (1.0, list(encoder.projector.parameters()))]
