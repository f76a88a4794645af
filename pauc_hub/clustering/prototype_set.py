"""The prototypes file: clusterings of one embedding space at several granularities, with names.

K prototypes, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ArtefactError
from pauc_hub.files.artefact import read_artefact, write_artefact
from pauc_hub.origin import Origin

PROTOTYPES_KIND, PROTOTYPES_FORMAT = "prototypes", 1
PROTOTYPES_SUFFIX = ".prototypes.safetensors"
SCORES = "calibration.scores"


@dataclass(frozen=True, eq=False)
class Calibration:
    """What images that no prototype was made from tell about confidences and outliers."""

    temperatures: tuple[float, ...]
    """Of the softmax over similarities, for each granularity; one and the same where they nest."""
    errors: tuple[float, ...]
    """Expected calibration error of each granularity's confidence, on images that no temperature
    was fitted on.
    """
    scores: Tensor
    """(n,) rising: 1 - similarity to the nearest prototype, of images that decide what an outlier
    is.
    """
    alpha: float
    """Share of images that the threshold was asked to flag when it was verified."""
    flagged: float
    """Share of other images that it did flag."""
    reclusterings: int

    def threshold(self, alpha: float) -> float:
        """Score above which an image is an outlier; of images from the same source at most a share
        `alpha` lies there.

        Returns:
            The ⌈(n + 1)(1 - alpha)⌉-th smallest score; infinite where there are too few for that.

        Source: split conformal prediction, Papadopoulos et al. 2002.
        """
        rank = int(np.ceil((len(self.scores) + 1) * (1 - alpha) - 1e-9))
        return float(self.scores[rank - 1]) if rank <= len(self.scores) else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """All but the scores; JSON."""
        return {
            "temperatures": self.temperatures,
            "errors": self.errors,
            "alpha": self.alpha,
            "flagged": self.flagged,
            "reclusterings": self.reclusterings,
        }

    @classmethod
    def from_dict(cls, about: Mapping[str, Any], scores: Tensor) -> Self:
        """What `to_dict` gave, and the scores.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            temperatures=tuple(about["temperatures"]),
            errors=tuple(about["errors"]),
            scores=scores,
            alpha=float(about["alpha"]),
            flagged=float(about["flagged"]),
            reclusterings=int(about["reclusterings"]),
        )


@dataclass(frozen=True, eq=False)
class PrototypeSet:
    """Clusterings of one embedding space, the coarsest first."""

    levels: tuple[Prototypes, ...]
    origin: Origin
    nested: bool
    """Whether a coarse prototype is the ancestor of finer ones; else each granularity is a
    clustering of its own.
    """
    names: tuple[tuple[str | None, ...], ...]
    """Of each granularity's prototypes."""
    calibration: Calibration | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, and what was measured; JSON."""

    @property
    def granularities(self) -> tuple[int, ...]:
        """Number of prototypes of each level."""
        return tuple(len(level.centroids) for level in self.levels)

    @property
    def width(self) -> int:
        return self.levels[0].centroids.shape[1]

    def ancestors(self, level: int) -> Tensor:
        """(K of the finest,) int64: which prototype of a level each of the finest ones belongs to;
        of a nested set.
        """
        found = torch.arange(self.granularities[-1])
        for finer in reversed(self.levels[level + 1 :]):
            assert finer.parents is not None, "nested levels have parents"
            found = finer.parents[found]
        return found

    def renamed(self, names: Sequence[Mapping[int, str]]) -> Self:
        """With new names for some prototypes of each level; the others keep theirs."""
        merged = (
            tuple(new.get(i, name) for i, name in enumerate(old))
            for old, new in zip(self.names, names, strict=True)
        )
        return replace(self, names=tuple(merged))


def unnamed(levels: Sequence[Prototypes]) -> tuple[tuple[None, ...], ...]:
    """Names of prototypes that nobody has named."""
    return tuple((None,) * len(level.centroids) for level in levels)


def tensors_of(levels: Sequence[Prototypes]) -> dict[str, Tensor]:
    """Levels as a file holds them: `prototypes.m`, `concentrations.m`, `sizes.m`, `radius.m` and,
    where they have some, `parents.m` of the m-th, coarse to fine.
    """
    tensors: dict[str, Tensor] = {}
    for m, level in enumerate(levels):
        tensors[f"prototypes.{m}"] = level.centroids
        tensors[f"concentrations.{m}"] = level.concentrations
        tensors[f"sizes.{m}"] = level.sizes
        tensors[f"radius.{m}"] = level.radius
        if level.parents is not None:
            tensors[f"parents.{m}"] = level.parents
    return tensors


def levels_of(tensors: Mapping[str, Tensor]) -> tuple[Prototypes, ...]:
    """The levels that tensors_of() made these tensors of.

    Raises:
        KeyError: one is missing; without any, the first.
        ValueError: they do not fit together.
    """
    count = max(1, sum(name.startswith("prototypes.") for name in tensors))
    return tuple(
        Prototypes(
            centroids=tensors[f"prototypes.{m}"],
            concentrations=tensors[f"concentrations.{m}"],
            sizes=tensors[f"sizes.{m}"],
            radius=tensors[f"radius.{m}"],
            parents=tensors.get(f"parents.{m}"),
        )
        for m in range(count)
    )


def write_prototypes(path: Path, prototypes: PrototypeSet) -> None:
    """Write a prototypes file, whole or not at all.

    Raises:
        PaucError: it cannot be written.
    """
    tensors = tensors_of(prototypes.levels)
    about = {"nested": prototypes.nested, "names": prototypes.names, "facts": prototypes.facts}
    if calibration := prototypes.calibration:
        tensors[SCORES] = calibration.scores
        about["calibration"] = calibration.to_dict()
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_artefact(path, PROTOTYPES_KIND, PROTOTYPES_FORMAT, arrays, prototypes.origin, about)


def read_prototypes(path: Path) -> PrototypeSet:
    """Read a prototypes file.

    Raises:
        ArtefactError: no such file, damaged, of another kind, or of a newer format.
    """
    found = read_artefact(path, PROTOTYPES_KIND, PROTOTYPES_FORMAT)
    tensors = {name: torch.from_numpy(values) for name, values in found.tensors.items()}
    about = found.about
    try:
        calibration = about.get("calibration")
        return PrototypeSet(
            levels=levels_of(tensors),
            origin=found.origin,
            nested=bool(about["nested"]),
            names=tuple(tuple(names) for names in about["names"]),
            calibration=None
            if calibration is None
            else Calibration.from_dict(calibration, tensors[SCORES]),
            facts=about.get("facts", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"'{path}' holds no usable prototypes ({error}). Make it anew."
        ) from error
