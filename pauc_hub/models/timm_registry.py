"""What timm has pretrained: its names, and for each the configuration and where the weights lie."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from pauc_hub.errors import MissingWeights, UnknownModel
from pauc_hub.models.bundled import model_names
from pauc_hub.models.entry import TIMM, ModelEntry
from pauc_hub.models.timm_import import import_timm
from pauc_hub.progress import progress_bar
from pauc_hub.suggestion import did_you_mean


class Pretrained(NamedTuple):
    """One entry of timm's registry."""

    config: dict[str, Any]
    """As config.json of a folder that timm saved would have it."""
    repository: str | None
    """On the Hugging Face Hub, `owner/name[@revision]`; None for the few that only have a URL."""
    filename: str | None
    """In the repository; the usual one unless given."""
    url: str | None


def names() -> Iterable[str]:
    """All pretrained ones with their tags, and all architectures."""
    timm = import_timm()
    return [*timm.list_models(pretrained=True), *timm.list_models()]


def find_pretrained(name: str) -> str | None:
    """`architecture.tag` for a name with or without its tag, deprecated ones too; None where timm
    has none such.

    Raises:
        MissingWeights: an architecture of timm's for which it has no weights.
    """
    timm = import_timm()
    name = timm.models.get_deprecated_models().get(name) or name
    if not timm.is_model(name):
        return None
    if timm.models.is_model_pretrained(name):
        cfg = timm.models.get_pretrained_cfg(name)
        return f"{cfg.architecture}.{cfg.tag}" if cfg.tag else name
    if "." in name:
        return None
    family = name.partition("_")[0]
    raise MissingWeights(
        f"timm has no pretrained weights for {name}. `pauc models --timm '{family}*'` lists "
        "similar ones."
    )


def list_pretrained(pattern: str, *, quiet: bool = False) -> list[ModelEntry]:
    """The pretrained models whose names fit, with or without tags; nothing is fetched.

    Args:
        pattern: with `*` and `?`, as timm.list_models() takes it.
        quiet: no progress bar; a network's width takes a moment to find out.

    Raises:
        UnknownModel: none fits.
    """
    timm = import_timm()
    found = [
        name
        for name in timm.list_models(pattern.removeprefix(TIMM), pretrained=True)
        if name not in model_names()
    ]
    if not found:
        hint = did_you_mean(pattern.strip("*"), names())
        raise UnknownModel(f"timm has no pretrained model named '{pattern}'.{hint}")
    architectures = dict.fromkeys(name.partition(".")[0] for name in found)
    widths: dict[str, int] = {}
    with progress_bar(len(architectures), "looking at networks", "networks", quiet=quiet) as bar:
        for architecture in architectures:
            widths[architecture] = _width(architecture)
            bar.advance(1)
    return [
        ModelEntry(name, True, f"{widths[name.partition('.')[0]]} numbers from {_side(name)} px")
        for name in found
    ]


def _width(architecture: str) -> int:
    """Of the pooled features; the network is built without memory for its weights."""
    with torch.device("meta"):
        return int(import_timm().create_model(architecture, pretrained=False).head_hidden_size)


def _side(name: str) -> str:
    _, height, width = import_timm().models.get_pretrained_cfg(name).input_size
    return str(width) if height == width else f"{width} x {height}"


def read_pretrained(name: str) -> Pretrained:
    """The registry's entry.

    Args:
        name: as find_pretrained() gives it.
    """
    cfg = import_timm().models.get_pretrained_cfg(name)
    kept = cfg.to_dict(remove_source=True) | {"custom_load": False}
    return Pretrained(
        config={
            "architecture": cfg.architecture,
            "num_classes": cfg.num_classes,
            "pretrained_cfg": kept,
        },
        repository=cfg.hf_hub_id,
        filename=cfg.hf_hub_filename,
        url=cfg.url,
    )
