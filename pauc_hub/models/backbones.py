"""The architectures as timm knows them: ResNets, stock or with a CIFAR stem, and bundled model
folders as weights.
"""

import math
from pathlib import Path
from typing import Any, cast

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from pauc_hub.errors import MissingWeights, ModelFolderError
from pauc_hub.models import bundled, hub_weights
from pauc_hub.models.architectures import CIFAR, CIFAR_POOL, NETWORKS, STOCK, Stem
from pauc_hub.models.catalog import Located
from pauc_hub.models.folder import WEIGHTS, ModelFolder, open_folder
from pauc_hub.models.hub_weights import HubWeights

__all__ = [  # a list: timm appends to it
    "pauc_resnet18",
    "pauc_resnet18_cifar",
    "pauc_resnet18_cifar_pool",
    "pauc_resnet50",
    "pauc_resnet50_cifar",
]

OWN_PAPER = {
    "paper_name": (
        "Rethinking Prototypical Contrastive Learning through Alignment, Uniformity and Correlation"
    ),
    "paper_ids": ("arXiv:2210.10194", "arXiv:2005.04966"),
}
WITHOUT_WEIGHTS = {
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "license": "apache-2.0",
    **OWN_PAPER,
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "num_classes": 0,
    "first_conv": "conv1",
    "classifier": "fc",
}


def _default_cfgs() -> dict[str, dict[str, Any] | PretrainedCfg]:
    """For timm: one entry a bundled folder, one for weights on the Hub, and one for each
    architecture without any.
    """
    folders = {folder.name: _bundled_cfg(folder) for folder in bundled.bundled_folders()}
    listed = {
        entry.name: _listed_cfg(entry)
        for entry in hub_weights.HUB_WEIGHTS
        if entry.name not in folders
    }
    bare = set(bundled.ARCHITECTURES) - {
        bundled.architecture_of(name) for name in (*folders, *listed)
    }
    # The order tells timm which of several is the default.
    return {
        **folders,
        **listed,
        **{name: WITHOUT_WEIGHTS | _usual_input(name) for name in sorted(bare)},
    }


def _usual_input(name: str) -> dict[str, Any]:
    """What the architecture is for: 224 pixels, or 64 or 32 where the stem reduces them less."""
    side = {STOCK: 224, CIFAR_POOL: 64, CIFAR: 32}[_stem(name)]
    return {"input_size": (3, side, side), "pool_size": _pool_size(name, side)}


def _pool_size(name: str, side: int) -> tuple[int, int]:
    """Height and width of the last feature map of a square image."""
    reduction = {STOCK: 32, CIFAR_POOL: 16, CIFAR: 8}[_stem(name)]
    return (math.ceil(side / reduction), math.ceil(side / reduction))


def _stem(name: str) -> Stem:
    return NETWORKS[name].stem if name in NETWORKS else STOCK  # pauc_resnet18 is timm's resnet18


def _bundled_cfg(folder: Path) -> dict[str, Any]:
    architecture = bundled.architecture_of(folder.name)
    try:
        return _folder_cfg(open_folder(folder), architecture)
    except ModelFolderError:  # timm must still import; whoever wants these weights is told
        return WITHOUT_WEIGHTS | _usual_input(architecture) | {"file": str(folder / WEIGHTS)}


def _listed_cfg(entry: HubWeights) -> dict[str, Any]:
    """The usual input until the folder was fetched, which tells better."""
    usual = _usual_input(bundled.architecture_of(entry.name))
    return WITHOUT_WEIGHTS | usual | {"license": entry.licence, "hf_hub_id": entry.hf_hub_id}


def _folder_cfg(folder: ModelFolder, architecture: str) -> dict[str, Any]:
    cfg = folder.preprocessing_config
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}
    return {
        "pool_size": _pool_size(architecture, tuples["input_size"][-1]),
        "license": folder.facts.get("license", "other"),
        **OWN_PAPER,
        **tuples,
        "file": str(folder.path / WEIGHTS),
    }


default_cfgs = generate_default_cfgs(_default_cfgs())  # the name under which timm looks for it


class SmallImageResNet(ResNet):
    """timm's ResNet behind another stem: its first convolution is 3 x 3 of stride 1, and max-pool
    may be left out.
    """

    def __init__(self, *arguments: Any, pools: bool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        stock = cast(nn.Conv2d, self.conv1)
        conv1 = nn.Conv2d(
            stock.in_channels, stock.out_channels, CIFAR.kernel, padding=1, bias=False
        )
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's
        self.add_module("conv1", conv1.to(stock.weight))
        if not pools:
            self.add_module("maxpool", nn.Identity())
        for stage in cast(list[dict[str, Any]], self.feature_info):  # features_only tells it
            stage["reduction"] = max(1, stage["reduction"] // (2 if pools else 4))


@register_model
def pauc_resnet18(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 without a classifier: (N, 3, H, W) to (N, 512) pooled features."""
    return _build(
        "pauc_resnet18", pretrained, {"block": BasicBlock, "layers": (2, 2, 2, 2)} | kwargs
    )


@register_model
def pauc_resnet18_cifar(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 for images of 32 pixels: a 3 x 3 convolution of stride 1 for a stem, no
    max-pool.
    """
    return _build(
        "pauc_resnet18_cifar", pretrained, {"block": BasicBlock, "layers": (2, 2, 2, 2)} | kwargs
    )


@register_model
def pauc_resnet18_cifar_pool(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 for images of 64 pixels: a 3 x 3 convolution of stride 1 for a stem, then the usual
    max-pool.
    """
    return _build(
        "pauc_resnet18_cifar_pool",
        pretrained,
        {"block": BasicBlock, "layers": (2, 2, 2, 2)} | kwargs,
    )


@register_model
def pauc_resnet50(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50 without a classifier: (N, 3, H, W) to (N, 2048) pooled features."""
    return _build(
        "pauc_resnet50", pretrained, {"block": Bottleneck, "layers": (3, 4, 6, 3)} | kwargs
    )


@register_model
def pauc_resnet50_cifar(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50 for images of 32 pixels: a 3 x 3 convolution of stride 1 for a stem, no
    max-pool.
    """
    return _build(
        "pauc_resnet50_cifar", pretrained, {"block": Bottleneck, "layers": (3, 4, 6, 3)} | kwargs
    )


def _build(name: str, pretrained: bool, arguments: dict[str, Any]) -> ResNet:
    if pretrained:
        cfg = resolve_pretrained_cfg(
            name, arguments.get("pretrained_cfg"), arguments.get("pretrained_cfg_overlay")
        )
        _check_weights(name, cfg)
        if fetched := _fetch_listed(name, cfg):
            arguments["pretrained_cfg_overlay"] = fetched | (
                arguments.get("pretrained_cfg_overlay") or {}
            )
    if (stem := _stem(name)) == STOCK:
        model: Any = build_model_with_cfg(ResNet, name, pretrained, **arguments)
        # timm's save_for_hf() writes this name, and plain timm then loads the folder.
        model.pretrained_cfg["architecture"] = name.removeprefix("pauc_")
        return cast(ResNet, model)
    return build_model_with_cfg(SmallImageResNet, name, pretrained, pools=stem.pools, **arguments)


def _check_weights(name: str, cfg: PretrainedCfg) -> None:
    """Refuse missing and damaged weights in our own words; weights that the caller brings are
    timm's affair.
    """
    if not (cfg.has_weights or cfg.state_dict):
        raise MissingWeights(
            f"there are no weights for {name} yet. Use pretrained=False for random ones, or a "
            "model that has some: "
            f"{', '.join(bundled.weights_names())}."
        )
    if cfg.file and Path(cfg.file).parent.parent == bundled.BUNDLED:
        open_folder(Path(cfg.file).parent).verify(WEIGHTS)


def _fetch_listed(name: str, cfg: PretrainedCfg) -> dict[str, Any]:
    """What timm is told of weights on the Hub, once they are here: it checks no sums when it
    fetches them itself.
    """
    entry = next(
        (entry for entry in hub_weights.HUB_WEIGHTS if entry.hf_hub_id == cfg.hf_hub_id), None
    )
    if entry is None or cfg.file or cfg.state_dict:
        return {}
    from pauc_hub.models.opening import open_model

    return _folder_cfg(open_model(Located(entry)), name)
