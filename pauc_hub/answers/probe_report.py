"""What `pauc probe` found, and the same as one JSON object."""

from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.evaluation.classification import ClassScore, Score, Scores
from pauc_hub.evaluation.low_shot import LowShot
from pauc_hub.evaluation.temperature import Reliability


@dataclass(frozen=True, eq=False)
class Draws:
    """Mean scores over draws of training images, by how many there were."""

    measure: str
    """`top1` or `map`."""
    points: list[tuple[str, LowShot]]
    """What the draw was, such as `4 a class`, and its scores."""
    full: float | None = None
    """With all training images, where the protocol has that."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What a protocol gives: scores on test images, or means over draws."""

    settings: dict[str, Any]
    """What was chosen on training images, and on how many."""
    covers: str
    """What the intervals are about."""
    scores: Scores | None = None
    without_copies: Scores | None = None
    reliability: Reliability | None = None
    uncalibrated_error: float | None = None
    """Expected calibration error before the temperature."""
    draws: dict[str, Draws] = field(default_factory=dict)
    """By convention."""
    probabilities: npt.NDArray[np.float32] | None = None
    """(M, C) of the classes, for each image that was asked about."""


@dataclass(frozen=True, eq=False)
class Report:
    """What pauc_hub.probe() returns."""

    protocol: str
    model: str
    space: str
    train: str
    train_images: int
    test: str | None
    """None for a cross-validation of the training images."""
    test_images: int
    unreadable: int
    """Images of both that could not be read."""
    classes: list[str]
    findings: Findings
    copies: list[tuple[str, str]]
    """Test images of which a copy is among the training images, with that copy."""
    seed: int
    output: Path | None
    """The probe file, if one was written."""
    notes: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers that there are not are null."""
        found = self.findings
        return {
            "protocol": self.protocol,
            "model": self.model,
            "space": self.space,
            "train": {"source": self.train, "images": self.train_images},
            "test": {"source": self.test, "images": self.test_images},
            "unreadable": self.unreadable,
            "classes": self.classes,
            "seed": self.seed,
            "settings": found.settings,
            "intervals": f"95 %, {found.covers}",
            "scores": _scores(found.scores),
            "copies": {"images": len(self.copies), "first": self.copies[:20]},
            "scores_without_copies": _scores(found.without_copies),
            "calibration": _calibration(found),
            "draws": {name: _draws(draws) for name, draws in found.draws.items()},
            "output": None if self.output is None else str(self.output),
            "notes": self.notes,
            "seconds": round(self.seconds, 1),
        }


def _scores(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {
        "images": scores.images,
        "groups": scores.groups,
        **{name: _score(score) for name, score in scores.totals.items()},
        "per_class": [_class(each) for each in scores.classes],
        "confusion": None if scores.confusion is None else scores.confusion.tolist(),
    }


def _score(score: Score) -> dict[str, float | None]:
    return {name: _number(value) for name, value in asdict(score).items()}


def _class(score: ClassScore) -> dict[str, Any]:
    return {
        "class": score.name,
        "images": score.images,
        "recall": _number(score.recall),
        "recall_interval": list(score.interval),
        "precision": _number(score.precision),
        "average_precision": _number(score.average_precision),
    }


def _calibration(found: Findings) -> dict[str, Any] | None:
    if found.reliability is None:
        return None
    bins = found.reliability
    return {
        "expected_error": bins.error,
        "expected_error_uncalibrated": found.uncalibrated_error,
        "bins": [
            {"confidence": float(confidence), "accuracy": float(accuracy), "count": int(count)}
            for confidence, accuracy, count in zip(
                bins.confidence, bins.accuracy, bins.counts, strict=True
            )
            if count
        ],
    }


def _draws(draws: Draws) -> dict[str, Any]:
    points = [
        {
            "training": name,
            "mean": point.mean,
            "interval": list(point.interval),
            "draws": point.draws,
        }
        for name, point in draws.points
    ]
    return {"measure": draws.measure, "full": draws.full, "points": points}


def _number(value: float) -> float | None:
    return None if isnan(value) else value
