"""Checkpoints as other projects lay them out, made by hand of the weights of a ResNet-18."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

W, D, K = 512, 16, 7  # width of ResNet-18, of its projections, number of prototypes
State = dict[str, Tensor]


def under(prefix: str, state: State, *, fc: bool = False) -> State:
    return {
        prefix + key: value.clone()
        for key, value in state.items()
        if fc or not key.startswith("fc.")
    }


def two_layers(first: str, second: str) -> State:
    generator = torch.Generator().manual_seed(2)
    draw = partial(torch.randn, generator=generator)
    return {
        f"{first}.weight": draw(W, W),
        f"{first}.bias": draw(W),
        f"{second}.weight": draw(D, W),
        f"{second}.bias": draw(D),
    }


def batch_norm(prefix: str) -> State:
    generator = torch.Generator().manual_seed(3)
    return {
        f"{prefix}.weight": torch.rand(W, generator=generator) + 0.5,
        f"{prefix}.bias": torch.randn(W, generator=generator),
        f"{prefix}.running_mean": torch.randn(W, generator=generator),
        f"{prefix}.running_var": torch.rand(W, generator=generator) + 0.5,
        f"{prefix}.num_batches_tracked": torch.tensor(9),
    }


def moco_v2(state: State) -> Any:
    """PCL v2, HCSC and MoCo v2: both encoders, and the queue."""
    query = under("module.encoder_q.", state) | two_layers(
        "module.encoder_q.fc.0", "module.encoder_q.fc.2"
    )
    twin = {key.replace("encoder_q", "encoder_k"): value + 1 for key, value in query.items()}
    queue = {
        "module.queue": torch.zeros(D, 8),
        "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
    }
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": query | twin | queue,
        "optimizer": {"state": {}},
    }


def pcl_v1(state: State) -> Any:
    """A head of one layer, and the query encoder alone."""
    head = {
        "module.encoder_q.fc.weight": torch.zeros(D, W),
        "module.encoder_q.fc.bias": torch.zeros(D),
    }
    return {"state_dict": under("module.encoder_q.", state) | head}


def moco_v3(state: State) -> Any:
    base = under("module.base_encoder.", state) | {
        "module.base_encoder.fc.0.weight": torch.zeros(9, W)
    }
    return {
        "state_dict": base
        | under("module.momentum_encoder.", state)
        | {"module.predictor.0.weight": torch.zeros(2)}
    }


def swav(state: State) -> Any:
    head = two_layers("module.projection_head.0", "module.projection_head.3") | batch_norm(
        "module.projection_head.1"
    )
    return under("module.", state) | head | {"module.prototypes.weight": torch.randn(K, D)}


def dino(state: State) -> Any:
    teacher = under("backbone.", state) | {
        "head.last_layer.weight_g": torch.zeros(3),
        "head.mlp.0.bias": torch.zeros(2),
    }
    student = {f"module.{key}": value + 1 for key, value in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 3}


def solo_learn(state: State) -> Any:
    extra = {"classifier.weight": torch.zeros(2, W), "queue": torch.zeros(2, 3)}
    projector = two_layers("projector.0", "projector.3") | batch_norm("projector.1")
    return {
        "state_dict": under("backbone.", state)
        | projector
        | under("momentum_backbone.", state)
        | extra
    }


def solo_learn_encoder(state: State) -> Any:
    return {"state_dict": under("encoder.", state) | {"classifier.weight": torch.zeros(2, W)}}


def lightly(state: State) -> Any:
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    body = {}
    for key, value in under("", state).items():
        first, _, rest = key.partition(".")
        body[f"backbone.{numbers[first]}.{rest}"] = value
    head = two_layers("projection_head.layers.0", "projection_head.layers.2")
    return body | head | {f"backbone_momentum.{key}": value for key, value in body.items()}


def plain_torchvision(state: State) -> Any:
    return under("", state, fc=True)


def plain_timm(state: State) -> Any:
    return {"model": under("", state)}
