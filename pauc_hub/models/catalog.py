"""What models there are, and where the one of a given name lies; quick, since it imports neither torch nor timm."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pauc_hub.errors import MissingWeights, UnknownModel
from pauc_hub.models.registration import ARCHITECTURES, bundled_folder, bundled_folders, model_names


@dataclass(frozen=True)
class Entry:
    name: str
    """What -m, load() and timm.create_model() take."""
    has_weights: bool
    description: str


def available_models() -> list[Entry]:
    """The bundled models, and the architectures without bundled weights, by name."""
    bundled = [Entry(folder.name, True, _describe(folder)) for folder in bundled_folders()]
    bare = [name for name in ARCHITECTURES if bundled_folder(name) is None]
    return sorted(
        [*bundled, *(Entry(name, False, f"{ARCHITECTURES[name]}; no weights are bundled yet") for name in bare)],
        key=lambda entry: entry.name,
    )


def locate(model: str | Path) -> Path:
    """The folder of a model: MODEL is the name of a bundled one, with or without its tag, or a model folder.

    A name goes before a folder of that name; write `./name` for the folder.

    Raises:
        UnknownModel: no such name, and no such folder.
        MissingWeights: an architecture whose weights are not bundled.
    """
    name = str(model)
    if name.startswith("hf-hub:"):
        raise UnknownModel(
            f"models on the Hugging Face Hub cannot be named yet. Download '{name}', and give the folder."
        )
    if isinstance(model, str) and (folder := bundled_folder(name)):
        return folder
    if isinstance(model, str) and name in ARCHITECTURES:
        have = ", ".join(entry.name for entry in available_models() if entry.has_weights)
        raise MissingWeights(f"no weights are bundled for {name} yet. Bundled are: {have}.")
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UnknownModel(f"'{path}' is a file, not a model folder.")
    raise UnknownModel(f"unknown model '{name}'.{_nearest(name)} `pauc models` lists all.")


def _nearest(name: str) -> str:
    close = get_close_matches(name, model_names(), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _describe(folder: Path) -> str:
    """From the receipts; a damaged folder must not spoil the list, and whoever loads it is told."""
    try:
        config, facts = _read(folder / "config.json"), _read(folder / "facts.json")
        data, side = facts["data"], config["pretrained_cfg"]["input_size"][-1]
        network = f"{config['architecture']}, {config['num_features']} numbers from {side} px"
        training = f"{config['pauc']['objective']}, {facts['epochs']} epochs on {data['images']} images"
        return f"{network}; {training}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"damaged ({type(error).__name__} in its description)"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
