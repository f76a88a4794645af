"""The origin of a file: which weights, space and preprocessing made the embeddings that it holds or
was made from.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pauc_hub.errors import OriginMismatch


@dataclass(frozen=True)
class Origin:
    """What made the embeddings. Two origins are equal where embeddings may be compared with each
    other.

    Model name, precision, root and version are shown to people, and not compared.
    """

    weights_sha256: str
    space: str
    """`backbone` or `projection`."""
    preprocessing: Mapping[str, Any]
    """From a file to the pixels that the network gets, value range and bands included."""
    pca: str | None = None
    """The sha256 of the PCA's file, where the embeddings were projected."""
    model: str = field(default="", compare=False)
    precision: str = field(default="", compare=False)
    root: str = field(default="", compare=False)
    """The folder, file or URL of the images."""
    package_version: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; from_dict() reads it."""
        return {**asdict(self), "preprocessing": dict(self.preprocessing)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The origin that to_dict() gave.

        Raises:
            KeyError, TypeError: `value` is none.
        """
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(**known)

    def __str__(self) -> str:
        """In a few words, for messages."""
        projected = f", PCA {self.pca[:12]}…" if self.pca else ""
        return (
            f"{self.model or 'a model'} (weights {self.weights_sha256[:12]}…, {self.space} "
            f"space{projected})"
        )


def require_same_origin(
    first: Origin, first_name: object, second: Origin, second_name: object
) -> None:
    """Refuse to mix what two different origins made.

    Args:
        first_name, second_name: the files, for the message.

    Raises:
        OriginMismatch: naming both, what differs, and the way out.
    """
    if first == second:
        return
    differs = _differences(first, second)
    raise OriginMismatch(
        f"'{first_name}' was made by {first} and '{second_name}' by {second}, which differ in "
        f"{differs}. "
        f"Embed the images of one as those of the other: `pauc embed IMAGES --like TABLE`."
    )


def _differences(first: Origin, second: Origin) -> str:
    found = []
    if first.weights_sha256 != second.weights_sha256:
        found.append("weights")
    if first.space != second.space:
        found.append("space")
    keys = sorted({*first.preprocessing, *second.preprocessing})
    found += [
        f"{key} ({_shown(first.preprocessing.get(key))}, {_shown(second.preprocessing.get(key))})"
        for key in keys
        if first.preprocessing.get(key) != second.preprocessing.get(key)
    ]
    if first.pca != second.pca:
        found.append("PCA")
    return ", ".join(found)


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
