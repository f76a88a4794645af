"""The probe file: a linear classifier on one embedding space, its classes, its temperature and its
scores.

Tensors, all float32: weights (C, D) and intercept (C,) of features standardised by mean (D,) and
scale (D,).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pauc_hub.errors import ArtefactError
from pauc_hub.evaluation.design import Standardisation
from pauc_hub.evaluation.logistic import Linear
from pauc_hub.files.artefact import read_artefact, write_artefact
from pauc_hub.origin import Origin

PROBE_KIND = "probe"
PROBE_FORMAT = 1
PROBE_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class ProbeFile:
    """What a probe file holds."""

    model: Linear
    classes: list[str]
    origin: Origin
    report: dict[str, Any]
    """How it was made and what it scored, as `pauc probe --json` prints it."""

    @property
    def width(self) -> int:
        return self.model.weights.shape[1]


def write_probe(path: Path, probe: ProbeFile) -> None:
    """Write a probe: there whole, or not at all.

    Raises:
        PaucError: it cannot be written.
    """
    linear = probe.model
    tensors = {
        "weights": linear.weights.numpy(),
        "intercept": linear.intercept.numpy(),
        "mean": linear.standardisation.mean.numpy(),
        "scale": linear.standardisation.scale.numpy(),
    }
    about = {
        "classes": probe.classes,
        "several": linear.several,
        "temperature": linear.temperature,
        "report": probe.report,
    }
    write_artefact(path, PROBE_KIND, PROBE_FORMAT, tensors, probe.origin, about)


def read_probe(path: Path) -> ProbeFile:
    """Read a probe.

    Raises:
        ArtefactError: no such file, damaged, or of another kind or format.
    """
    found = read_artefact(path, PROBE_KIND, PROBE_FORMAT)
    try:
        weights, intercept, mean, scale = (
            torch.from_numpy(found.tensors[name].astype(np.float32))
            for name in ("weights", "intercept", "mean", "scale")
        )
        classes = [str(name) for name in found.about["classes"]]
        several, temperature = bool(found.about["several"]), float(found.about["temperature"])
        report = dict(found.about["report"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"'{path}' is damaged: it lacks {error}. Make it anew.") from error
    if (weights.shape, mean.shape, scale.shape) != (
        (len(classes), len(mean)),
        mean.shape,
        mean.shape,
    ):
        raise ArtefactError(
            f"'{path}' is damaged: its tensors do not fit its {len(classes)} classes. Make it anew."
        )
    model = Linear(weights, intercept, Standardisation(mean, scale), several, temperature)
    return ProbeFile(model, classes, found.origin, report)
