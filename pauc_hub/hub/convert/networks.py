"""Which network a set of weights is, by its keys and shapes."""

import re
from collections.abc import Mapping

from torch import Tensor

from pauc_hub.errors import ModelFolderError

# Blocks of the four stages, whether they are bottlenecks, first convolution's kernel → timm's name
# or ours.
RESNETS = {
    ((2, 2, 2, 2), False, 7): "resnet18",
    ((3, 4, 6, 3), False, 7): "resnet34",
    ((3, 4, 6, 3), True, 7): "resnet50",
    ((3, 4, 23, 3), True, 7): "resnet101",
    ((3, 8, 36, 3), True, 7): "resnet152",
}
# Width, depth, side of a patch.
VITS = {
    (192, 12, 16): "vit_tiny_patch16_224",
    (384, 12, 16): "vit_small_patch16_224",
    (384, 12, 8): "vit_small_patch8_224",
    (768, 12, 16): "vit_base_patch16_224",
    (768, 12, 8): "vit_base_patch8_224",
}


def recognise_network(weights: Mapping[str, Tensor]) -> str:
    """timm's name of the architecture, or ours.

    Raises:
        ModelFolderError: none of those that are recognised.
    """
    stem = weights.get("conv1.weight")
    if stem is not None and stem.shape[-1] == 3:
        # solo-learn's pads by 2, lightly's has no ReLU; neither is in the weights.
        raise ModelFolderError(
            "the network has a 3 × 3 stem, whose padding and activation the weights do not "
            "tell. If it pads by 1 and "
            "ends in a ReLU, give architecture=pauc_resnet18_cifar or the like."
        )
    found = _resnet(weights) or _vit(weights)
    if found is None:
        raise ModelFolderError(
            "the network of this checkpoint is not recognised: name it with architecture=NAME"
        )
    return found


def _resnet(weights: Mapping[str, Tensor]) -> str | None:
    stem = weights.get("conv1.weight")
    if stem is None or stem.ndim != 4:
        return None
    blocks = {
        match.groups() for key in weights if (match := re.match(r"layer(\d)\.(\d+)\.conv1\.", key))
    }
    depths = tuple(sum(stage == str(number) for stage, _ in blocks) for number in (1, 2, 3, 4))
    # Wide and grouped variants have other widths, and are not guessed.
    if weights["layer1.0.conv1.weight"].shape[:2] != (64, 64):
        return None
    return RESNETS.get((depths, "layer1.0.conv3.weight" in weights, stem.shape[-1]))


def _vit(weights: Mapping[str, Tensor]) -> str | None:
    patches = weights.get("patch_embed.proj.weight")
    if patches is None:
        return None
    depth = len({match[1] for key in weights if (match := re.match(r"blocks\.(\d+)\.", key))})
    return VITS.get((patches.shape[0], depth, patches.shape[-1]))
