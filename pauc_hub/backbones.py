"""The architectures as timm knows them: stock ResNets under our names, with the bundled model folders as weights."""

from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from pauc_hub import registration
from pauc_hub.errors import MissingWeights, ModelFolderError
from pauc_hub.folder import WEIGHTS, open_folder

__all__ = ["pauc_resnet18", "pauc_resnet50"]  # a list: timm appends to it

WITHOUT_WEIGHTS = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "num_classes": 0,
    "first_conv": "conv1",
    "classifier": "fc",
}


def _default_cfgs() -> dict[str, dict[str, Any] | PretrainedCfg]:
    """For timm: one entry a bundled folder, and one for each architecture without any."""
    bundled = {folder.name: _bundled_cfg(folder) for folder in registration.bundled_folders()}
    bare = set(registration.ARCHITECTURES) - {registration.architecture_of(name) for name in bundled}
    return {**bundled, **dict.fromkeys(sorted(bare), WITHOUT_WEIGHTS)}


def _bundled_cfg(folder: Path) -> dict[str, Any]:
    try:
        cfg = open_folder(folder).preprocessing_config
    except ModelFolderError:  # timm must still import; whoever wants these weights is told
        cfg = WITHOUT_WEIGHTS
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}
    return {**tuples, "file": str(folder / WEIGHTS)}


default_cfgs = generate_default_cfgs(_default_cfgs())  # the name under which timm looks for it


@register_model
def pauc_resnet18(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 without a classifier: (N, 3, H, W) to (N, 512) pooled features."""
    return _build("pauc_resnet18", pretrained, {"block": BasicBlock, "layers": (2, 2, 2, 2)} | kwargs)


@register_model
def pauc_resnet50(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50 without a classifier: (N, 3, H, W) to (N, 2048) pooled features."""
    return _build("pauc_resnet50", pretrained, {"block": Bottleneck, "layers": (3, 4, 6, 3)} | kwargs)


def _build(name: str, pretrained: bool, arguments: dict[str, Any]) -> ResNet:
    if pretrained:
        cfg = resolve_pretrained_cfg(name, arguments.get("pretrained_cfg"), arguments.get("pretrained_cfg_overlay"))
        _check_weights(name, cfg)
    return build_model_with_cfg(ResNet, name, pretrained, **arguments)


def _check_weights(name: str, cfg: PretrainedCfg) -> None:
    """Refuse missing and damaged weights in our own words; weights that the caller brings are timm's affair."""
    if not (cfg.has_weights or cfg.state_dict):
        others = ", ".join(folder.name for folder in registration.bundled_folders())
        raise MissingWeights(
            f"no weights are bundled for {name} yet. Use pretrained=False for random ones, or a model that has some: "
            f"{others}."
        )
    if cfg.file and Path(cfg.file).parent.parent == registration.WEIGHTS:
        open_folder(Path(cfg.file).parent).verify(WEIGHTS)
