"""The optimisers of the M-step, by name; biases and norms are spared weight decay, and LARS' adaptation too."""

import torch
from timm.optim.lars import Lars
from torch import nn

from pauc_hub.training.config import Config

MOMENTUM = 0.9  # of SGD and LARS


def new_optimiser(module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """For the module's parameters, where they lie now; fused, which on a CPU gives the same numbers."""
    parameters = list(module.parameters())
    matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay}
    vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    match config.optimiser:
        case "lars":  # You et al. 2017
            return Lars([matrices | {"always_adapt": True}, vectors], lr=config.peak_lr, momentum=MOMENTUM)
        case "adamw":
            return torch.optim.AdamW([matrices, vectors], lr=config.peak_lr, fused=True)
    return torch.optim.SGD([matrices, vectors], lr=config.peak_lr, momentum=MOMENTUM, fused=True)
