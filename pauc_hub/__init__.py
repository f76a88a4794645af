"""Image backbones trained without labels by prototypical contrastive learning, and embeddings from them.

    >>> import pauc_hub, timm
    >>> backbone = timm.create_model("pauc_resnet18", pretrained=True)
    >>> embeddings = pauc_hub.load("pauc_resnet18").embed(["cat.jpg", "dog.jpg"])  # (2, 512) float32

Importing this imports neither torch nor timm; they come with the first use.
"""

from typing import TYPE_CHECKING, Any

from pauc_hub.errors import PaucError
from pauc_hub.models.registration import register_when_timm_is_imported

if TYPE_CHECKING:
    from pauc_hub.inference.model import Model, load

    __version__: str

__all__ = ["Model", "PaucError", "__version__", "load"]

register_when_timm_is_imported()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pauc-hub")
    if name in ("Model", "load"):
        from pauc_hub.inference import model

        return getattr(model, name)
    raise AttributeError(f"module 'pauc_hub' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
