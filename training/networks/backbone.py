"""Any timm network as a backbone that learns: built, looked at and refused. N images, S side of a
view, D width.
"""

from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.models.architectures import NETWORKS
from pauc_hub.models.timm_import import import_timm
from pauc_hub.models.timm_network import patch_problem, patch_side

# Images that the network is tried on without computing anything: their share of what is kept for
# the gradient is each one's own.
TRIED = 2


class Traits(NamedTuple):
    """What a network is like, as far as training asks.

    Attributes:
        width: D, of the features that it pools.
        batch_norm: whether images of a batch share statistics.
        fixed_size: whether the side of the views is part of the network, as with learnt positions.
        kept: bytes that it keeps of a view for the gradient, in fp32.
    """

    width: int
    batch_norm: bool
    fixed_size: bool
    kept: int


def has_batch_norm(architecture: str, size: int) -> bool:
    """Whether groups of a batch share statistics; True where the network cannot be built, which
    others refuse.
    """
    if architecture in NETWORKS:
        # spares importing timm
        return True
    try:
        return inspect_backbone(architecture, size).batch_norm
    except UsageError:
        return True


@cache
def inspect_backbone(architecture: str, size: int) -> Traits:
    """Look at a network without giving it any memory.

    Args:
        size: side of the views, pixels.

    Raises:
        UsageError: timm has no such network, it does not pool, or it does not take views of that
            size.
    """
    kept = dict[int, int]()
    try:
        with torch.device("meta"):
            backbone = create_backbone(architecture, size).train()
            weights = {parameter.untyped_storage()._cdata for parameter in backbone.parameters()}  # noqa: SLF001

            def keep(tensor: Tensor) -> Tensor:
                # one entry for each piece of memory, however often it is kept
                memory = tensor.untyped_storage()  # without an address here
                if memory._cdata not in weights:  # noqa: SLF001
                    kept[memory._cdata] = memory.nbytes()  # noqa: SLF001
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                features = backbone(torch.zeros(TRIED, 3, size, size))
    except PaucError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"architecture='{architecture}' does not take views of size={size} ({reason}): "
            f"its usual size is {_usual_side(architecture)}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise UsageError(
            f"architecture='{architecture}' does not pool its features: choose another network"
        )
    return Traits(
        width=features.shape[1],
        batch_norm=any(isinstance(layer, nn.BatchNorm2d) for layer in backbone.modules()),
        fixed_size=_is_fixed(architecture),
        kept=sum(kept.values()) // TRIED,
    )


def fitting_side(architecture: str, side: int) -> int:
    """The side of views that the network takes, near `side`; `side` itself where there is none,
    which others refuse.
    """
    if architecture in NETWORKS or not import_timm().is_model(architecture):
        return side
    usual = _usual_side(architecture)
    with torch.device("meta"):
        patch = patch_side(import_timm().create_model(architecture))
    for candidate in (side, side // patch * patch, (side // patch + 1) * patch, usual):
        with suppress(UsageError):
            inspect_backbone(architecture, candidate)
            return candidate
    return side


def build_backbone(architecture: str, size: int) -> nn.Module:
    """The network with initial weights and without a classifier: (N, 3, S, S) to (N, D).

    Raises:
        UsageError: as inspect_backbone().
    """
    inspect_backbone(architecture, size)
    return create_backbone(architecture, size)


def create_backbone(architecture: str, size: int) -> nn.Module:
    """The same without trying it; on whatever device is the default."""
    timm = import_timm()
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UsageError(f"architecture='{architecture}' is no network of timm's{hint}")
    if "." in architecture:
        name, _, tag = architecture.partition(".")
        raise UsageError(
            f"architecture='{architecture}' names the weights '{tag}', and a new network has "
            f"none: give '{name}'"
        )
    backbone = timm.create_model(architecture, num_classes=0, **build_options(architecture, size))
    if rest := patch_problem(backbone, size):
        raise UsageError(f"size={size} {rest}")
    return _without_dropout(cast(nn.Module, backbone))


def _without_dropout(backbone: nn.Module) -> nn.Module:
    """Nothing random within: a run goes on exactly, and parts of a batch are computed twice
    alike.
    """
    for layer in backbone.modules():
        if isinstance(layer, _DropoutNd):
            layer.p = 0.0
        elif hasattr(layer, "drop_prob"):
            cast(Any, layer).drop_prob = 0.0
    return backbone


@cache
def build_options(architecture: str, size: int) -> dict[str, Any]:
    """What timm has to be told, beside the name, to build the network for such views."""
    options = {"img_size": size}
    if not _is_fixed(architecture):
        return {}
    try:
        with torch.device("meta"):
            import_timm().create_model(architecture, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        # Its size cannot be set; whether it is this one shows when it is tried.
        return {}
    return options


def _is_fixed(architecture: str) -> bool:
    return bool(_registered(architecture).get("fixed_input_size"))


def _usual_side(architecture: str) -> int:
    return int(_registered(architecture).get("input_size", (3, 224, 224))[-1])


def _registered(architecture: str) -> dict[str, Any]:
    """timm's configuration of its default weights."""
    cfg = import_timm().models.get_pretrained_cfg(architecture)
    return cfg.to_dict() if cfg else {}
