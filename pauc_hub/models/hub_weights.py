"""Weights that are too large for the wheel: where they are on the Hugging Face Hub. Needs no
torch.
"""

from typing import NamedTuple


class HubWeights(NamedTuple):
    """A model folder that `pauc push` put on the Hub, under a name of this package."""

    name: str
    """`architecture.tag`, as a bundled folder would be named."""
    repository: str
    """`owner/name`."""
    commit: str
    """40 hexadecimal digits; a branch may move, a commit never changes."""
    sha256: str
    """Of model.safetensors. Other bytes are never loaded, whatever the Hub says of them."""
    licence: str
    """Of the weights, as facts.json has it under `license`."""

    @property
    def hf_hub_id(self) -> str:
        """As timm's pretrained_cfg has it."""
        return f"{self.repository}@{self.commit}"


# Nothing was pushed yet. timm's registry, `pauc models` and load() read this table; of several
# entries for one architecture, the first is its default, unless weights for it are bundled.
HUB_WEIGHTS: tuple[HubWeights, ...] = ()


def find_hub_weights(name: str) -> HubWeights | None:
    """The entry of `architecture.tag`, or the first of `architecture`; None where there is none."""
    return next(
        (entry for entry in HUB_WEIGHTS if name in (entry.name, entry.name.partition(".")[0])), None
    )
