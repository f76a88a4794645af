"""From a file to tensors by key, without ever running what a pickle asks for."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pauc_hub.errors import ModelFolderError

# torch's own words advise to run it as code.
NOT_TENSORS = "it cannot be read as a pickle of tensors"
# Outermost first; the teacher is what DINO evaluates.
WRAPPERS = ("state_dict", "model", "teacher", "student", "model_state_dict")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, without the wrapper and a leading `module.`.

    Raises:
        ModelFolderError: it is no checkpoint, or holds Python objects that would have to be run.
    """
    if path.suffix == ".safetensors":
        return _unwrapped(_read_safetensors(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
            raise ModelFolderError(
                f"'{path}' is no checkpoint of torch's: {NOT_TENSORS}."
            ) from error
        raise ModelFolderError(
            f"'{path}' holds Python objects beside its tensors ({_object(error)}), which are "
            "never loaded here. Strip "
            "it where it came from: python -c \"import torch; c = torch.load('IN', "
            "weights_only=False); "
            "torch.save({'state_dict': c.get('state_dict') or c.get('model') or "
            "c.get('teacher')}, 'OUT')\""
        ) from error
    except KeyError as error:  # an opcode that pickle does not have
        raise ModelFolderError(f"'{path}' is no checkpoint of torch's: {NOT_TENSORS}.") from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise ModelFolderError(
            f"'{path}' is no checkpoint of torch's: {_first_line(error)}"
        ) from error
    return _unwrapped(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ModelFolderError(f"'{path}' is no safetensors file ({error}).") from error


def _unwrapped(content: Any) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next(
            (content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if content
        else {}
    )
    if not tensors:
        raise ModelFolderError(
            "the checkpoint holds no tensors by name: give one that has a state dict."
        )
    while all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _object(error: Exception) -> str:
    """The class that the pickle names, out of torch's long message."""
    words = str(error).replace("`", " ").split()
    named = [word.strip(".,:") for word in words if "." in word.strip(".,:") and word[0].isalpha()]
    found = [name for name in named if not name.startswith(("torch.", "https"))]
    return found[0] if found else "of a class that is not named"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
