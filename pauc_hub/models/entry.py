"""A model as a listing shows it, and the prefixes that say where a name leads."""

from dataclasses import dataclass

HUB = "hf-hub:"
LOCAL = "local-dir:"
TIMM = "timm/"


@dataclass(frozen=True)
class ModelEntry:
    name: str
    """What -m, load() and timm.create_model() take."""
    has_weights: bool
    description: str
