"""The function behind `pauc info`: what made a file, from what, and whether it can be made again
here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pauc_hub.errors import ArtefactError, PaucError, UsageError
from pauc_hub.files.artefact import read_facts
from pauc_hub.hub.exported import EXPORTED_SUFFIXES, read_exported
from pauc_hub.models.bundled import bundled_folder
from pauc_hub.models.catalog import RUN_CONFIG, RUN_METRICS, RUN_MODEL, locate
from pauc_hub.models.entry import HUB
from pauc_hub.models.folder import FACTS, MODEL_CONFIG, ModelFolder, open_folder
from pauc_hub.origin import Origin
from pauc_hub.tables.stored import Stored, open_table

CHECKPOINTS = (".pth", ".pt", ".tar", ".ckpt", ".bin")
TABLES = (".parquet", ".npy", ".safetensors")
# Of a run's receipts, what is told in one line each.
TOLD = ("command", "commit", "license", "epochs", "seconds")


@dataclass(frozen=True)
class Info:
    """What info() gives."""

    path: Path
    kind: str
    """`model`, `run`, `table`, `prototypes`, `probe`, `onnx`, `torch-export`, …"""
    facts: dict[str, Any]
    """What made it, and from what; JSON."""
    again: str
    """Whether it can be made again here, in words."""


def info(path: str | Path) -> Info:
    """Tell what made a model folder, a run, a table, a prototypes file, a probe or an exported
    model.

        >>> info("photos.parquet").facts["model"]
        'pauc_resnet18.tiny_imagenet'

    Nothing is fetched, and no image or embedding is read. The name of a bundled model will do, too.

    Raises:
        UsageError: there is no such file, or pauc-hub did not write it.
        PaucError: it is damaged.
    """
    place = Path(path).expanduser()
    if not place.exists():
        return _named(str(path))
    if place.suffix in CHECKPOINTS:
        raise UsageError(f"'{path}' is a checkpoint; `pauc convert` makes a model folder of it.")
    if place.is_dir():
        return _folder(place)
    if place.suffix == ".safetensors":
        try:
            about = read_facts(place)
        except ArtefactError:
            about = {}
        if "kind" in about:
            return _artefact(place, about)
    if place.suffix in EXPORTED_SUFFIXES:
        return _artefact(place, read_exported(place))
    if place.suffix not in TABLES:
        raise UsageError(
            f"'{path}' is not a table, a prototypes file, a probe or an exported model; "
            "of a model or a run, give the folder."
        )
    return _table(place)


def _named(name: str) -> Info:
    """What is here under a name; nothing is fetched for it."""
    if bundled := bundled_folder(name):
        return _model(open_folder(bundled))
    if name.startswith(HUB):
        raise UsageError(
            f"'{name}' is not here, and nothing is fetched: `pauc pull "
            f"{name.removeprefix(HUB)}` first."
        )
    raise UsageError(f"there is no file or folder '{name}'.")


def _folder(place: Path) -> Info:
    if (place / RUN_METRICS).is_file() and (place / RUN_CONFIG).is_file():
        return _run(place)
    if (place / MODEL_CONFIG).is_file():
        return _model(open_folder(place))
    if not any(place.glob("part-*.parquet")):
        raise UsageError(f"'{place}' is no model folder, no run, and no folder of a table's parts.")
    return _table(place)


def _run(place: Path) -> Info:
    if not (place / RUN_MODEL).is_dir():
        again = f"it is not finished: `pauc train IMAGES -o {place} --resume` goes on"
        return Info(place, "run", {"finished": False}, again)
    model = _model(open_folder(place / RUN_MODEL))
    return Info(place, "run", {"finished": True} | model.facts, model.again)


def _model(folder: ModelFolder) -> Info:
    facts = folder.facts
    about: dict[str, Any] = {
        "name": folder.name,
        "architecture": folder.architecture,
        "weights_sha256": folder.weights_sha256,
    }
    if folder.pauc:
        about |= {
            "objective": folder.pauc.get("objective"),
            "clusters": folder.pauc.get("clusters"),
        }
    about |= {name: facts[name] for name in TOLD if facts.get(name)}
    for name in ("data", "converted", "hardware", "versions"):
        if isinstance(facts.get(name), dict):
            about[name] = {
                key: value
                for key, value in facts[name].items()
                if isinstance(value, str | int | float)
            }
    return Info(folder.path, "model", about, _model_again(facts))


def _model_again(facts: Mapping[str, Any]) -> str:
    if source := facts.get("converted"):
        return f"with the command, from the file {source['file']} of sha256 {source['sha256']}"
    if facts.get("command") and (data := facts.get("data")):
        return (
            f"with the command, on the {data['images']:,} images of list sha256 "
            f"{data['list_sha256'][:12]}…"
        )
    return f"no: there is no {FACTS} that says how it was made"


def _table(place: Path) -> Info:
    stored: Stored = open_table(place)
    about = {"embeddings": stored.rows, "width": stored.width} | _made_from(
        stored.provenance.origin
    )
    return Info(place, "table", about, _again(stored.provenance.origin))


def _artefact(place: Path, about: dict[str, Any]) -> Info:
    try:
        origin = Origin.from_dict(about["origin"])
    except (KeyError, TypeError) as error:
        raise ArtefactError(
            f"'{place}' is damaged: it does not say what it was made from. Make it anew."
        ) from error
    own = {
        key: value
        for key, value in about.items()
        if key not in ("kind", "origin", "format_version")
    }
    if about["kind"] == "prototypes":
        names = [name for level in own.get("names", []) for name in level]
        own["names"] = f"{sum(name is not None for name in names)} of {len(names)} prototypes"
    return Info(place, str(about["kind"]), _short(own) | _made_from(origin), _again(origin))


def _short(about: Mapping[str, Any]) -> dict[str, Any]:
    """Long lists as their lengths."""
    return {
        key: f"{len(value)} entries"
        if isinstance(value, list | dict) and len(str(value)) > 200
        else value
        for key, value in about.items()
        if value not in (None, [], {})
    }


def _made_from(origin: Origin) -> dict[str, Any]:
    return {key: value for key, value in origin.to_dict().items() if value}


def _again(origin: Origin) -> str:
    """Whether model and images are here; nothing is fetched."""
    missing = [what for what in (_missing_model(origin), _missing_images(origin)) if what]
    if missing:
        return f"not as things are: {'; '.join(missing)}"
    return "yes: its model and its images are here" if origin.root else "yes: its model is here"


def _missing_model(origin: Origin) -> str:
    try:
        place = locate(origin.model).place
        if not isinstance(place, Path):
            return ""
        found = open_folder(place).weights_sha256
    except PaucError:
        return f"the model '{origin.model}' is not here"
    if found != origin.weights_sha256:
        return f"the model '{origin.model}' here has other weights ({found[:12]}…)"
    return ""


def _missing_images(origin: Origin) -> str:
    if "://" in origin.root or not origin.root or Path(origin.root).exists():
        return ""
    return f"the images '{origin.root}' are not here"
