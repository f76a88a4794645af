"""What timm has pretrained: its names, and for each the configuration and where the weights lie."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pauc_hub.errors import MissingWeights
from pauc_hub.models.registration import import_timm


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
    """`architecture.tag` for a name with or without its tag, deprecated ones too; None where timm has none such.

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
        f"timm has no pretrained weights for {name}. `pauc models --timm '{family}*'` lists similar ones."
    )


def read_pretrained(name: str) -> Pretrained:
    """The registry's entry.

    Args:
        name: as find_pretrained() gives it.
    """
    cfg = import_timm().models.get_pretrained_cfg(name)
    kept = cfg.to_dict(remove_source=True) | {"custom_load": False}
    return Pretrained(
        config={"architecture": cfg.architecture, "num_classes": cfg.num_classes, "pretrained_cfg": kept},
        repository=cfg.hf_hub_id,
        filename=cfg.hf_hub_filename,
        url=cfg.url,
    )
