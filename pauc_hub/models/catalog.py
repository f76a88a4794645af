"""What models there are, and what MODEL names: the one place that reads it. Imports timm only for
timm's names.
"""

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pauc_hub.errors import MissingWeights, UnknownModel, UsageError
from pauc_hub.models import hub_weights
from pauc_hub.models.bundled import (
    ARCHITECTURES,
    architecture_of,
    bundled_folder,
    bundled_folders,
    model_names,
    weights_names,
)
from pauc_hub.models.entry import HUB, LOCAL, TIMM, ModelEntry
from pauc_hub.models.hub_weights import HubWeights, find_hub_weights
from pauc_hub.suggestion import did_you_mean

TIMM_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
REPOSITORY = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")

# As pauc_hub.training.run.run_folder has them, which may not be imported from here.
RUN_METRICS, RUN_CONFIG, RUN_MODEL = "metrics.jsonl", "config.json", "model"

# What every command takes unless told otherwise: the bundled model with the best measured kNN
# score. A test compares the scores in the facts.json of all bundled models, and tells when another
# is due.
DEFAULT_MODEL = "pauc_resnet18"


class TimmName(NamedTuple):
    """Pretrained weights in timm's registry: `architecture.tag`."""

    name: str


class Repository(NamedTuple):
    """A model repository on the Hugging Face Hub."""

    id: str
    """`owner/name`."""
    revision: str | None = None
    """Branch, tag or commit; the main branch unless given."""


@dataclass(frozen=True)
class Located:
    """What MODEL names. Nothing was fetched or read yet."""

    place: Path | HubWeights | TimmName | Repository
    note: str = ""
    """Where the name could have meant something else: what."""


def available_models() -> list[ModelEntry]:
    """The bundled models, those fetched from the Hub, and the architectures without weights, by
    name.
    """
    entries = {
        folder.name: ModelEntry(folder.name, True, _describe(folder))
        for folder in bundled_folders()
    }
    for listed in hub_weights.HUB_WEIGHTS:
        entries.setdefault(listed.name, ModelEntry(listed.name, True, _describe_listed(listed)))
    for bare in ARCHITECTURES.keys() - {architecture_of(name) for name in entries}:
        entries[bare] = ModelEntry(bare, False, f"{ARCHITECTURES[bare]}; no weights yet")
    return [entries[name] for name in sorted(entries)]


def locate(model: str | Path) -> Located:
    """What MODEL names; a Path is always a folder.

    A word is, in this order:

    1. `hf-hub:owner/name[@revision]`, a repository on the Hugging Face Hub;
    2. `local-dir:folder`, a folder;
    3. the name of a bundled model or of one in HUB_WEIGHTS, with or without its tag;
    4. a name of timm's, with or without its tag and `timm/`;
    5. a model folder, or the folder of a run, whose model is meant.

    So a name goes before a folder of that name, and the note says so: `./name` is the folder.

    Raises:
        UnknownModel: no such name, no such folder, or a run that has no model yet.
        MissingWeights: an architecture without weights.
    """
    if isinstance(model, Path):
        return Located(_model_of(model))
    if model.startswith(HUB):
        return Located(_repository(model.removeprefix(HUB)))
    if model.startswith(LOCAL):
        return Located(_model_of(Path(model.removeprefix(LOCAL))))
    if folder := bundled_folder(model):
        return Located(folder, _note(model, "bundled model"))
    if listed := find_hub_weights(model):
        return Located(listed, _note(model, "model of pauc-hub"))
    if model in ARCHITECTURES:
        raise MissingWeights(
            f"there are no weights for {model} yet, only for: {', '.join(weights_names())}."
        )
    if TIMM_NAME.fullmatch(model.removeprefix(TIMM)) and (
        not Path(model).is_dir() or _may_be_of_timm(model)
    ):
        # imports timm, which takes seconds
        from pauc_hub.models.timm_registry import find_pretrained

        if name := find_pretrained(model.removeprefix(TIMM)):
            return Located(TimmName(name), _note(model, "timm model"))
    if Path(model).expanduser().exists():
        return Located(_model_of(Path(model)))
    raise UnknownModel(_unknown(model))


def parse_repository(name: str) -> Repository:
    """What push() and pull() take, with or without `hf-hub:`.

    Raises:
        UsageError: it is not `owner/name` or `owner/name@revision`.
    """
    match = REPOSITORY.fullmatch(name.removeprefix(HUB))
    if not match:
        raise UsageError(f"'{name}' names no repository. Write owner/name.")
    return Repository(match["id"], match["revision"])


def _model_of(path: Path) -> Path:
    """The folder, or the model in it if it is that of a run."""
    path = path.expanduser()
    if path.is_file():
        raise UnknownModel(f"'{path}' is a file, not a model folder.")
    if not path.is_dir():
        raise UnknownModel(f"there is no folder '{path}'.")
    if not all((path / name).is_file() for name in (RUN_METRICS, RUN_CONFIG)):
        return path
    if not (path / RUN_MODEL).is_dir():
        raise UnknownModel(
            f"the run in '{path}' has no model yet. `pauc train IMAGES -o {path} --export` "
            "makes one of its last "
            "checkpoint; --resume in place of --export finishes it."
        )
    return path / RUN_MODEL


def _may_be_of_timm(name: str) -> bool:
    """Whether timm's files, which are read in a few milliseconds, speak of it: to import timm takes
    seconds.
    """
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return True
    architecture = name.removeprefix(TIMM).partition(".")[0]
    # The latter are deprecated names.
    traces = (f"def {architecture}(", f"'{architecture}':")
    texts = (
        file.read_text(encoding="utf-8")
        for file in (Path(spec.origin).parent / "models").glob("*.py")
    )
    return any(trace in text for text in texts for trace in traces)


def _repository(name: str) -> Repository:
    match = REPOSITORY.fullmatch(name)
    if not match:
        raise UnknownModel(
            f"'{HUB}{name}' names no repository. Write {HUB}owner/name or {HUB}owner/name@revision."
        )
    return Repository(match["id"], match["revision"])


def _note(name: str, what: str) -> str:
    return (
        f"'{name}' is the {what}; the folder of that name is './{name}'."
        if Path(name).is_dir()
        else ""
    )


def _unknown(name: str) -> str:
    if "/" in name and not name.startswith(TIMM):
        on_hub = (
            f" A repository on the Hugging Face Hub is written {HUB}{name}."
            if REPOSITORY.fullmatch(name)
            else ""
        )
        return f"unknown model '{name}': there is no such folder.{on_hub}"
    from pauc_hub.models.timm_registry import names  # imports timm, which takes seconds

    hint = did_you_mean(name.removeprefix(TIMM), [*model_names(), *names()])
    return f"unknown model '{name}'.{hint} {ALL}"


ALL = "`pauc models` lists all."


def _describe(folder: Path) -> str:
    """From the receipts; a damaged folder must not spoil the list, and whoever loads it is told."""
    try:
        config, facts = _read(folder / "config.json"), _read(folder / "facts.json")
        data, side = facts["data"], config["pretrained_cfg"]["input_size"][-1]
        network = f"{config['architecture']}, {config['num_features']} numbers from {side} px"
        training = (
            f"{config['pauc']['objective']}, {facts['epochs']} epochs on {data['images']} images"
        )
        return f"{network}; {training}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"damaged ({type(error).__name__} in its description)"


def _describe_listed(listed: HubWeights) -> str:
    network = ARCHITECTURES.get(architecture_of(listed.name), architecture_of(listed.name))
    return (
        f"{network}; fetched from {HUB}{listed.repository} at first use; licence {listed.licence}"
    )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
