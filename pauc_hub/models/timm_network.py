"""timm's own network of a model folder, with its weights. N images, S side, D width."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.timm_import import import_timm


class PooledFeatures(nn.Module):
    """(N, 3, S, S) pixels to (N, D): what timm's network pools, before its classifier if it has
    one.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def width(self) -> int:
        """D. The network knows it; config.json's num_features is something else in some, 576 of
        MobileNetV3's 1024.
        """
        return cast(int, self.backbone.head_hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        backbone: Any = self.backbone
        features: Tensor = backbone.forward_head(backbone.forward_features(pixels), pre_logits=True)
        return features.flatten(1)


def build_timm_network(folder: ModelFolder, image_size: int | None = None) -> nn.Module:
    """As timm.create_model(…, pretrained=True) makes it, classifier included; in evaluation mode,
    without gradients.

    Args:
        image_size: side of the images, pixels; the network's own unless given.

    Raises:
        ModelFolderError: timm does not know the architecture, or the weights do not fit it.
        UsageError: the network does not take that size.
    """
    timm = import_timm()
    # create_model() would also fetch from the network what names a place
    if not timm.is_model(folder.architecture):
        raise ModelFolderError(
            f"'{folder.path}' is of an architecture unknown to timm: '{folder.architecture}'."
        )
    if folder.pauc:
        folder.verify(folder.weights)
    name, options = f"local-dir:{folder.path}", dict[str, Any]()
    if folder.registered:
        file = {"file": str(folder.path / folder.weights), "custom_load": False}
        name, options = folder.name, {"pretrained_cfg_overlay": file}
    if image_size and _is_fixed(folder):
        options["img_size"] = image_size
    with refusing_misfits(folder, image_size):
        backbone = cast(nn.Module, timm.create_model(name, pretrained=True, **options)).eval()
        if image_size:
            check_image_size(backbone, image_size)
            with torch.inference_mode():
                cast(Any, backbone).forward_features(torch.zeros(1, 3, image_size, image_size))
    if "pre_logits" not in inspect.signature(cast(Any, backbone).forward_head).parameters:
        raise ModelFolderError(
            f"timm's {folder.architecture} does not tell its pooled features. Take another network."
        )
    return backbone.requires_grad_(False).to(memory_format=torch.channels_last)


def check_image_size(backbone: nn.Module, size: int) -> None:
    """Refuse a side that would leave a rest of the image unseen, or that is too small for the
    network.

    Raises:
        UsageError: with the nearest sides that will do.
    """
    if problem := patch_problem(backbone, size):
        raise UsageError(f"image_size={size} {problem}.")


def patch_problem(backbone: nn.Module, size: int) -> str:
    """What is wrong with that side, and the nearest sides that will do; empty where nothing is."""
    patch = patch_side(backbone)
    if size >= patch and size % patch == 0:
        return ""
    below, above = size // patch * patch, (size // patch + 1) * patch
    allowed = f"{below} or {above}" if below else str(above)
    return f"is no multiple of the network's patches of {patch} pixels: use {allowed}"


def patch_side(backbone: nn.Module) -> int:
    """Side of the patches that a transformer cuts the image into; 1 of all other networks."""
    embed = getattr(backbone, "patch_embed", None)
    patch = getattr(embed, "patch_size", 1)
    return int(patch if isinstance(patch, int) else max(patch))


def _is_fixed(folder: ModelFolder) -> bool:
    """Whether the size of the images is part of the network, as with learnt positions."""
    free = (
        folder.model_args.get("dynamic_img_size")
        or folder.model_args.get("strict_img_size") is False
    )
    return bool(folder.preprocessing_config.get("fixed_input_size")) and not free


@contextmanager
def refusing_misfits(folder: ModelFolder, image_size: int | None = None) -> Iterator[None]:
    """One line where a network cannot be built from a folder.

    Raises:
        ModelFolderError, UsageError: the latter where it could be with images of another size.
    """
    try:
        yield
    except (MemoryError, UsageError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if image_size and "state_dict" not in reason:
            message = (
                f"image_size={image_size} does not suit {folder.architecture} ({reason}). Use "
                "another."
            )
            raise UsageError(message) from error
        raise ModelFolderError(
            f"the weights in '{folder.path}' do not fit its {folder.architecture} ({reason})."
        ) from error
