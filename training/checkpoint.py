"""Atomic save, exact resume: one safetensors file holds all that the next step depends on, and no pickle.

Random numbers need no state (draws.py): they follow from the seed and the place in the run.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pauc_hub.durable import sync
from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.folder import Prototypes
from pauc_hub.training.encoder import MomentumPair
from pauc_hub.training.estep import Expectation

FORMAT_VERSION = 2
NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Place:
    """Where a run stands: `step` steps of epoch `epoch` are done.

    Attributes:
        seconds: spent so far, over all sittings.
        images: fingerprint of the list of images.
        command: what was typed to start the run.
        watched: what the running epoch's E-step measured, for the epoch's line of metrics.jsonl.
    """

    epoch: int
    step: int
    seconds: float
    images: str
    command: str = ""
    watched: dict[str, float] = field(default_factory=dict)


def save(
    run: Path, place: Place, pair: MomentumPair, optimiser: torch.optim.Optimizer, expectation: Expectation | None
) -> None:
    """Write beside, sync, rename: a crash leaves the previous checkpoint.

    Raises:
        TrainingFailed: the disk is full or the folder is gone.
    """
    tensors = {f"pair.{name}": value for name, value in pair.state_dict().items()}
    tensors |= _optimiser_tensors(pair, optimiser) | _expectation_tensors(expectation)
    metadata = {"format": str(FORMAT_VERSION), "place": json.dumps(place.__dict__)}
    temporary = run / f".{NAME}.writing"
    try:
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)
        sync(temporary)
        temporary.replace(run / NAME)
        sync(run)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise TrainingFailed(
            f"the checkpoint could not be written to '{run}' ({error}). What was saved before still stands: --resume."
        ) from error


def read_place(run: Path, images: str) -> Place:
    """Where the run stood when it was last saved.

    Args:
        images: fingerprint of the images at hand.

    Raises:
        UsageError: no checkpoint there, one that cannot be read, or one of other images.
    """
    path = run / NAME
    if not path.exists():
        raise UsageError(f"nothing to resume: '{path}' does not exist. Start anew with --overwrite.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UsageError(f"'{path}' cannot be read ({error}). Start anew with --overwrite.") from error
    if metadata.get("format") != str(FORMAT_VERSION):
        raise UsageError(
            f"'{path}' is of format {metadata.get('format')}, this version reads {FORMAT_VERSION}. "
            "Start anew with --overwrite."
        )
    place = Place(**json.loads(metadata["place"]))
    if place.images != images:
        raise UsageError(f"the images are not those that '{run}' was started with. Start anew with --overwrite.")
    return place


def restore(
    run: Path, pair: MomentumPair, optimiser: torch.optim.Optimizer, device: torch.device
) -> Expectation | None:
    """Put weights, queue and optimiser as they were saved, and return the last E-step's result, if there was one."""
    with safe_open(run / NAME, framework="pt") as file:
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    pair.load_state_dict({name.removeprefix("pair."): t for name, t in tensors.items() if name.startswith("pair.")})
    _restore_optimiser(tensors, pair, optimiser)
    return _expectation(tensors)


def _optimiser_tensors(pair: MomentumPair, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Whatever an optimiser of torch's keeps for each parameter, under `optimiser.what.parameter`."""
    return {
        f"optimiser.{what}.{name}": value
        for name, parameter in pair.query.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimiser(tensors: dict[str, Tensor], pair: MomentumPair, optimiser: torch.optim.Optimizer) -> None:
    kept: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key in (key for key in tensors if key.startswith("optimiser.")):
        _, what, name = key.split(".", 2)
        kept[name][what] = tensors[key]
    names = {parameter: name for name, parameter in pair.query.named_parameters()}
    state = optimiser.state_dict()
    for i, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        if values := kept.get(names[parameter]):
            state["state"][i] = {what: _laid_out(value, parameter) for what, value in values.items()}
    optimiser.load_state_dict(state)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """In the parameter's own memory layout, so that the next step's sums run in the same order."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _expectation_tensors(expectation: Expectation | None) -> dict[str, Tensor]:
    if expectation is None:
        return {}
    tensors = {}
    for m, (prototypes, assignment) in enumerate(zip(expectation.prototypes, expectation.assignments, strict=True)):
        tensors[f"assignment.{m}"] = assignment
        tensors |= {f"prototypes.{m}.{name}": value for name, value in prototypes.__dict__.items() if value is not None}
    return tensors


def _expectation(tensors: dict[str, Tensor]) -> Expectation | None:
    count = sum(name.startswith("assignment.") for name in tensors)
    if count == 0:
        return None
    return Expectation(
        tuple(_prototypes(tensors, m) for m in range(count)), tuple(tensors[f"assignment.{m}"] for m in range(count))
    )


def _prototypes(tensors: dict[str, Tensor], m: int) -> Prototypes:
    start = f"prototypes.{m}."
    return Prototypes(**{name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)})
