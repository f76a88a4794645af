"""Files derived from embeddings, such as prototypes and probes: safetensors with a kind, an origin
and facts.

The metadata has one entry of ours, `pauc`, a JSON object: kind, format_version, origin, and what
the kind adds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pauc_hub.errors import ArtefactError
from pauc_hub.files.atomic import replacing
from pauc_hub.files.failures import writing
from pauc_hub.origin import Origin

METADATA_KEY = "pauc"
_Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Artefact:
    """What read_artefact() gives."""

    tensors: dict[str, _Array]
    origin: Origin
    about: dict[str, Any]
    """What else its metadata say."""


def write_artefact(
    path: Path,
    kind: str,
    version: int,
    tensors: Mapping[str, _Array],
    origin: Origin,
    about: Mapping[str, Any],
) -> None:
    """Write a file: there whole and synced to disk, or not at all; one that stands there is
    replaced.

    Args:
        kind: of the file, e.g. `prototypes`.
        version: of the kind's format.
        about: what else is to be known; JSON.

    Raises:
        PaucError: it cannot be written.
    """
    facts = {"kind": kind, "format_version": version, "origin": origin.to_dict(), **about}
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
    arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    # transformers and others refuse files that do not say "pt"
    data = ordered(save(arrays, metadata={"format": "pt", METADATA_KEY: text}))
    with writing(path, ". Name another place."), replacing(path) as file:
        file.write(data)


def ordered(data: bytes) -> bytes:
    """The same file with its metadata in order; safetensors writes them in an order that changes
    from call to call.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def read_artefact(path: Path, kind: str, version: int) -> Artefact:
    """Read a file of this kind.

    Raises:
        ArtefactError: no such file, damaged, of another kind, or of a newer format.
    """
    about = read_facts(path)
    if about.get("kind") != kind:
        found = about.get("kind")
        raise ArtefactError(f"'{path}' is a {found or 'table'} file, not a {kind} file.")
    if about.pop("format_version", None) != version:
        raise ArtefactError(
            f"'{path}' is of another format than this pauc-hub reads, {version}. Upgrade it."
        )
    try:
        origin = Origin.from_dict(about.pop("origin"))
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise ArtefactError(f"'{path}' is damaged ({error}). Make it anew.") from error
    return Artefact(tensors, origin, about)


def read_facts(path: Path) -> dict[str, Any]:
    """What a file's metadata say, whatever its kind; the tensors are not read.

    Raises:
        ArtefactError: no such file, or not one of this package.
    """
    if not path.is_file():
        raise ArtefactError(f"no such file: '{path}'.")
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {})[METADATA_KEY])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtefactError(f"'{path}' is damaged, or no file of pauc-hub.") from error
    if not isinstance(facts, dict):
        raise ArtefactError(f"'{path}' is damaged: its metadata are no JSON object.")
    return facts
