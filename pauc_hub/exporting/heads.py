"""Prototypes and probes that go into an exported file, and whether they belong to the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pauc_hub.answers.assignments import column_keys, unit_points
from pauc_hub.answers.probe_file import ProbeFile, read_probe
from pauc_hub.clustering.assignment import assign_points
from pauc_hub.clustering.prototype_set import PrototypeSet, read_prototypes, unnamed
from pauc_hub.errors import ArtefactError, OriginMismatch, UsageError
from pauc_hub.exporting.graph import PROJECTION, Head, ProbeHead, PrototypeHead
from pauc_hub.exporting.parity import Array
from pauc_hub.inference.model import Model
from pauc_hub.origin import Origin

OWN = "model"
"""What stands for the model's own prototypes."""
# How a file becomes 8-bit RGB, which happens before anything that is exported.
DONE_BEFORE = ("value_range", "bands", "decoding")
Spaces = Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]
"""(n, D) embeddings of the same images, by space."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What an exported file says besides the embedding."""

    prototypes: PrototypeSet | None = None
    probe: ProbeFile | None = None

    @property
    def spaces(self) -> set[str]:
        return {each.origin.space for each in (self.prototypes, self.probe) if each}

    def heads(self) -> list[Head]:
        """Anew each time."""
        found: list[Head] = [PrototypeHead(self.prototypes)] if self.prototypes else []
        return [*found, ProbeHead(self.probe)] if self.probe else found

    def of(self, embeddings: Spaces) -> dict[str, Array]:
        """What `pauc assign` and `pauc predict` say of embeddings, under the names of the
        outputs.
        """
        found: dict[str, Array] = {}
        if self.prototypes:
            points = unit_points(embeddings[self.prototypes.origin.space])
            for key, level in zip(
                column_keys(self.prototypes), assign_points(points, self.prototypes), strict=True
            ):
                found[f"prototype_{key}"] = level.prototype.numpy()
                found[f"similarity_{key}"] = level.similarity.numpy()
                if level.confidence is not None:
                    found[f"confidence_{key}"] = level.confidence.numpy()
        if self.probe:
            rows = embeddings[self.probe.origin.space]
            linear = self.probe.model
            probabilities = linear.probabilities(linear.logits(rows, np.arange(len(rows)))).numpy()
            found |= {
                "class": probabilities.argmax(axis=1),
                "probability": probabilities.max(axis=1),
            }
            found["probabilities"] = probabilities
        return found

    def facts(self) -> dict[str, Any]:
        """For the file's metadata."""
        found: dict[str, Any] = {}
        if self.prototypes:
            levels = zip(column_keys(self.prototypes), self.prototypes.names, strict=True)
            found["prototypes"] = {
                "space": self.prototypes.origin.space,
                "calibrated": self.prototypes.calibration is not None,
                "granularities": [
                    {
                        "key": key,
                        "prototypes": len(names),
                        **({"names": names} if any(names) else {}),
                    }
                    for key, names in levels
                ],
            }
        if self.probe:
            several = self.probe.model.several
            found["probe"] = {
                "space": self.probe.origin.space,
                "classes": self.probe.classes,
                "several": several,
            }
        return found


def read_answers(prototypes: str | Path | None, probe: str | Path | None, model: Model) -> Answers:
    """Read what was asked for, and check that the model made it.

    Args:
        prototypes: a prototypes file, or `model` for those that the model was trained with.

    Raises:
        ArtefactError: a file is missing, damaged, or of another kind.
        UsageError: the model has no prototypes, or no projection head.
        OriginMismatch: a file was made from embeddings of another model, size or preprocessing.
    """
    found = Answers(
        prototypes=_read_prototypes(prototypes, model) if prototypes else None,
        probe=read_probe(Path(probe)) if probe else None,
    )
    for each, file in ((found.prototypes, prototypes), (found.probe, probe)):
        if each and file:
            _require_made_by(model, each.origin, file)
            if each.width != (width := model.width_in(each.origin.space)):
                raise ArtefactError(
                    f"'{file}' is for {each.width} numbers an image, and the model gives {width}."
                )
    return found


def _read_prototypes(prototypes: str | Path, model: Model) -> PrototypeSet:
    if str(prototypes) != OWN:
        return read_prototypes(Path(prototypes))
    if not model.prototypes:
        raise UsageError(
            f"model '{model.name}' has no prototypes. Make some with `pauc cluster`, and give "
            "prototypes=FILE."
        )
    return PrototypeSet(
        model.prototypes,
        origin_of(model, PROJECTION),
        nested=False,
        names=unnamed(model.prototypes),
    )


def origin_of(model: Model, space: str) -> Origin:
    """Of embeddings that a model makes of ordinary images."""
    return Origin(
        weights_sha256=model.weights_sha256,
        space=space,
        preprocessing=model.preprocessing.to_config(),
        model=model.name,
        precision=model.precision,
    )


def _require_made_by(model: Model, origin: Origin, file: str | Path) -> None:
    if origin.weights_sha256 != model.weights_sha256:
        raise OriginMismatch(
            f"'{file}' was made with {origin}, and model '{model.name}' has weights "
            f"{model.weights_sha256[:12]}…. "
            "Export the model that made it."
        )
    if origin.pca:
        raise OriginMismatch(
            f"'{file}' was made after a PCA, which is not exported. Make it from a table "
            "without one."
        )
    theirs = {key: value for key, value in origin.preprocessing.items() if key not in DONE_BEFORE}
    ours = model.preprocessing.to_config()
    if theirs.get("input_size") != ours["input_size"] and theirs.get("input_size"):
        side = theirs["input_size"][-1]
        raise OriginMismatch(
            f"'{file}' was made at {side} pixels, and this exports {model.preprocessing.size}. "
            f"Give image_size={side}."
        )
    if differs := [key for key in sorted({*ours, *theirs}) if theirs.get(key) != ours.get(key)]:
        raise OriginMismatch(
            f"'{file}' was made with another {', '.join(differs)} than the model '{model.name}' "
            "has. Make it anew."
        )
