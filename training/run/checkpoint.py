"""Atomic save, exact resume: one safetensors file holds all that the next step depends on, and no
pickle.

Random numbers need no state (rng.py): they follow from the seed and the place in the run.
"""

import json
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.training.estep import Expectation
from pauc_hub.training.networks.encoder import MomentumPair
from pauc_hub.training.run import checkpoint_files

CHECKPOINT_FORMAT = 3


@dataclass(frozen=True)
class Place:
    """Where a run stands: `step` steps of epoch `epoch` are done.

    Attributes:
        seconds: spent so far, over all sittings.
        images: fingerprint of the list of images.
        command: what was typed to start the run.
        launch: what torchrun calls the processes that wrote it; empty without torchrun.
        watched: what the running epoch's E-step measured, for the epoch's line of metrics.jsonl.
        epochs: of the schedule that it was trained under; 0 where that was not written down.
        schedules: laid anew on the way, see Training.
        queue_side: of the views that the queue's keys were made of, pixels; 0 before there are any.
    """

    epoch: int
    step: int
    seconds: float
    images: str
    command: str = ""
    launch: str = ""
    watched: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    schedules: list[dict[str, Any]] = field(default_factory=list)
    queue_side: int = 0


def save(
    run: Path,
    place: Place,
    pair: MomentumPair,
    optimiser: torch.optim.Optimizer,
    expectation: Expectation | None,
) -> None:
    """Put a checkpoint beside the one before, which a crash or a full disk leaves as it is.

    Raises:
        TrainingFailed: the disk is full or the folder is gone.
    """
    tensors = {f"pair.{name}": value for name, value in pair.state_dict().items()}
    tensors |= _optimiser_tensors(pair, optimiser) | _expectation_tensors(expectation)
    metadata = {"format": str(CHECKPOINT_FORMAT), "place": json.dumps(place.__dict__)}
    try:
        checkpoint_files.put(run, (place.epoch, place.step), tensors, metadata)
    except checkpoint_files.Failures as error:
        raise TrainingFailed(
            f"the checkpoint could not be written to '{run}' ({error}). "
            "What was saved before still stands: resume=True."
        ) from error


def read_place(run: Path, images: str, *, quiet: bool = False) -> Place | None:
    """Where the run stood when it was last saved, by the newest checkpoint that is whole; None
    where there is none yet.

    Args:
        images: fingerprint of the images at hand.

    Raises:
        UsageError: all checkpoints are damaged, or the newest is of other images or another
            version.
    """
    paths, damages = checkpoint_files.standing(run), list[str]()
    for path in paths:
        try:
            place = _place(path, checkpoint_files.inspect(path))
        except checkpoint_files.Damaged as damage:
            damages.append(f"'{path}' is damaged ({damage})")
            continue
        if place.images != images:
            raise UsageError(
                f"the images are not those that '{run}' was started with. Start anew with "
                "overwrite=True."
            )
        if damages and not quiet:
            at = f"epoch {place.epoch + 1}, step {place.step}"
            sys.stderr.write(
                f"warning: {damages[0]}; going on from the checkpoint before it, at {at}\n"
            )
        return place
    if damages:
        raise UsageError(
            f"{damages[0]}, and no other checkpoint is whole. Start anew with overwrite=True."
        )
    if not quiet:
        sys.stderr.write(
            f"warning: '{run}' was stopped before its first checkpoint; beginning at the start\n"
        )
    return None


def written_under(run: Path, launch: str) -> bool:
    """Whether the newest checkpoint is of processes that torchrun has started again since."""
    paths = checkpoint_files.standing(run)
    with suppress(checkpoint_files.Damaged, UsageError):
        return (
            bool(launch and paths)
            and _place(paths[0], checkpoint_files.inspect(paths[0])).launch == launch
        )
    return False


def _place(path: Path, metadata: dict[str, str]) -> Place:
    if metadata.get("format") != str(CHECKPOINT_FORMAT):
        raise UsageError(
            f"'{path}' is of format {metadata.get('format')}, this version reads "
            f"{CHECKPOINT_FORMAT}. Start anew with overwrite=True."
        )
    return Place(**json.loads(metadata["place"]))


def restore(
    run: Path,
    place: Place,
    pair: MomentumPair,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> Expectation | None:
    """Put weights, queue and optimiser as they were at `place`, and return what the last E-step
    found, if any.
    """
    tensors = checkpoint_files.tensors_in(
        checkpoint_files.path_at(run, (place.epoch, place.step)), device
    )
    pair.load_state_dict(
        {name.removeprefix("pair."): t for name, t in tensors.items() if name.startswith("pair.")}
    )
    _restore_optimiser(tensors, pair, optimiser)
    return _expectation(tensors)


def _optimiser_tensors(pair: MomentumPair, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Whatever an optimiser of torch's keeps for each parameter, under
    `optimiser.what.parameter`.
    """
    return {
        f"optimiser.{what}.{name}": value
        for name, parameter in pair.query.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimiser(
    tensors: dict[str, Tensor], pair: MomentumPair, optimiser: torch.optim.Optimizer
) -> None:
    kept: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key in (key for key in tensors if key.startswith("optimiser.")):
        _, what, name = key.split(".", 2)
        kept[name][what] = tensors[key]
    names = {parameter: name for name, parameter in pair.query.named_parameters()}
    state = optimiser.state_dict()
    for i, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        if values := kept.get(names[parameter]):
            state["state"][i] = {
                what: _laid_out(value, parameter) for what, value in values.items()
            }
    optimiser.load_state_dict(state)


def _laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """In the parameter's own memory layout, so that the next step's sums run in the same order."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _expectation_tensors(expectation: Expectation | None) -> dict[str, Tensor]:
    if expectation is None:
        return {}
    tensors = {}
    for m, (prototypes, assignment) in enumerate(
        zip(expectation.prototypes, expectation.assignments, strict=True)
    ):
        tensors[f"assignment.{m}"] = assignment
        tensors |= {
            f"prototypes.{m}.{name}": value
            for name, value in prototypes.__dict__.items()
            if value is not None
        }
    return tensors


def _expectation(tensors: dict[str, Tensor]) -> Expectation | None:
    count = sum(name.startswith("assignment.") for name in tensors)
    if count == 0:
        return None
    return Expectation(
        tuple(_prototypes(tensors, m) for m in range(count)),
        tuple(tensors[f"assignment.{m}"] for m in range(count)),
    )


def _prototypes(tensors: dict[str, Tensor], m: int) -> Prototypes:
    start = f"prototypes.{m}."
    return Prototypes(
        **{
            name.removeprefix(start): value
            for name, value in tensors.items()
            if name.startswith(start)
        }
    )
