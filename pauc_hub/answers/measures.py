"""All measures of one model on labelled images, as a scores file has them: linear probe, kNN, low
shots, clusterings, geometry.
"""

import importlib.util
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pauc_hub.answers import protocols
from pauc_hub.answers.alignment import measure_alignment
from pauc_hub.answers.labelled import LabelledTable, class_names, group_numbers
from pauc_hub.answers.probe_report import Findings
from pauc_hub.answers.protocols import Question
from pauc_hub.answers.questions import notes_of, open_labelled, pose_question
from pauc_hub.answers.scores_file import ScoresFile, digest
from pauc_hub.answers.separation import measure_clusters, measure_geometry
from pauc_hub.errors import PaucError
from pauc_hub.evaluation.linear_probe import FOLDS
from pauc_hub.progress import progress_bar
from pauc_hub.sources.annotations import WantedColumns, read_labels_file

EVALUATIONS = frozenset({"linear", "knn", "lowshot", "clustering", "geometry"})
DIGITS = 6
"""Of probabilities in a scores file."""
NEEDS_EVAL = "needs the extra eval: `pip install 'pauc-hub[eval]'`"


@dataclass(frozen=True)
class Asked:
    """What models are measured on and how; fields as the parameters of evaluate()."""

    data: str | Path
    test: str | Path | None = None
    space: str | None = None
    labels: str | Path | None = None
    label_column: str | None = None
    group: str | None = None
    seed: int = 0
    device: str = "auto"
    quiet: bool = False
    only: frozenset[str] = EVALUATIONS
    """Which evaluations; the others are not made, and say nothing."""


def measure(model: str | None, asked: Asked) -> tuple[ScoresFile, list[str]]:
    """All measures of one model, and what a user should know of how labels and copies were found.

    Args:
        model: None where the data are a table.

    Raises:
        UsageError: labels are missing, do not match, or are too few.
        PaucError: as embed() does.
    """
    learned, tested = open_asked(model, asked)
    return measure_opened(learned, tested, model, asked)


def open_asked(model: str | None, asked: Asked) -> tuple[LabelledTable, LabelledTable | None]:
    """The training and the test images, embedded where need be; raises what measure() does."""
    wanted = WantedColumns(asked.label_column, asked.group)
    file = read_labels_file(Path(asked.labels), wanted) if asked.labels else None
    return open_labelled(
        asked.data,
        asked.test,
        file,
        wanted,
        model=model,
        space=asked.space or "backbone",
        device=asked.device,
        quiet=asked.quiet,
    )


def measure_opened(
    learned: LabelledTable, tested: LabelledTable | None, model: str | None, asked: Asked
) -> tuple[ScoresFile, list[str]]:
    """As measure(), of what open_asked() gave."""
    classes = class_names(learned.labels)
    question, copies = pose_question(
        learned,
        tested,
        classes,
        model=model,
        device=asked.device,
        seed=asked.seed,
        quiet=asked.quiet,
    )
    scores = _measured(learned, tested, question, len(copies), asked)
    if "geometry" in asked.only:
        _add_alignment(scores, tested or learned, model, asked)
    return scores, notes_of(learned, tested, question.copied)


def _add_alignment(
    scores: ScoresFile, tested: LabelledTable, model: str | None, asked: Asked
) -> None:
    groups = None if tested.groups is None else group_numbers(tested.groups)
    try:
        found = measure_alignment(tested, model, groups, asked.seed, asked.device, asked.quiet)
    except PaucError as error:
        scores.left_out["alignment"] = str(error).rstrip(".")
        return
    scores.scores["geometry"] = {"alignment": asdict(found), **scores.scores["geometry"]}


def _measured(
    learned: LabelledTable,
    test: LabelledTable | None,
    question: Question,
    copies: int,
    asked: Asked,
) -> ScoresFile:
    """All but alignment, which needs the images."""
    tested = test or learned
    unreadable = learned.given.unreadable
    if test and test.given is not learned.given:
        unreadable += test.given.unreadable
    file = ScoresFile(
        origin=learned.given.origin,
        data=describe_data(learned, test) | {"copies": copies},
        protocol=_protocol(learned, test, asked.seed),
        settings={},
        scores={},
        intervals={},
        left_out={},
        predictions={"path": tested.paths(), "label": tested.labels, "group": tested.groups},
        unreadable=unreadable,
    )
    with progress_bar(_fits(test is not None), "evaluating", "fits", asked.quiet) as bar:
        question = replace(question, resources=replace(question.resources, advance=bar.advance))
        for name, findings in _found(question, asked.only, file.left_out):
            file.scores[name] = _numbers(findings)
            file.settings[name] = findings.settings
            file.intervals[name] = findings.covers
            if findings.probabilities is not None:
                file.predictions[name] = _answers(findings, question, tested.several)
        if asked.only & {"clustering", "geometry"}:
            _add_separation(file, question, asked)
    return file


def _add_separation(file: ScoresFile, question: Question, asked: Asked) -> None:
    """Clustering and geometry, which rest on one k-means."""
    given = question.data if question.test is None else question.test
    features = torch.from_numpy(np.asarray(given.features, np.float32))
    points = torch.nn.functional.normalize(features, dim=1)
    advance = question.resources.advance
    clusters = measure_clusters(points, given.targets, len(question.names), asked.seed, advance)
    file.predictions["cluster"] = clusters.assignment.tolist()
    if "clustering" in asked.only:
        file.left_out.update(clusters.left_out)
    if clusters.scores and "clustering" in asked.only:
        file.scores["clustering"] = clusters.scores
        file.intervals["clustering"] = clusters.covers
    if "geometry" in asked.only:
        file.scores["geometry"] = measure_geometry(
            points, clusters.assignment, given.groups, asked.seed
        )
        file.intervals["geometry"] = "Student's t over a jackknife of ten parts of the images"
    advance(1)


def _found(
    question: Question, only: frozenset[str], left_out: dict[str, str]
) -> list[tuple[str, Findings]]:
    """What the protocols say that apply; `left_out` is told of the others."""
    found = []
    if "linear" in only:
        found.append(("linear", protocols.linear(question)[0]))
    if question.data.targets.ndim == 2:
        left_out |= dict.fromkeys(sorted({"knn", "lowshot"} & only), "needs one label an image")
        return found
    if "knn" in only:
        found.append(("knn", protocols.standard_knn(question)))
    if "lowshot" not in only:
        return found
    if importlib.util.find_spec("sklearn") is None:
        left_out["lowshot"] = NEEDS_EVAL
        return found
    try:
        found.append(("lowshot", protocols.lowshot(question)))
    except PaucError as error:
        left_out["lowshot"] = str(error)
    question.resources.advance(1)
    return found


def _fits(has_test: bool) -> int:
    return sum(protocols.fits(name, has_test) for name in ("linear", "knn", "lowshot")) + 6


def _numbers(findings: Findings) -> dict[str, Any]:
    """Scores by measure, and by the number of images a class."""
    totals = findings.scores.totals if findings.scores else {}
    found: dict[str, Any] = {name: asdict(score) for name, score in totals.items()}
    if findings.without_copies:
        for name, each in findings.without_copies.totals.items():
            found[f"{name}_without_copies"] = asdict(each)
    for draws in findings.draws.values():
        for name, point in draws.points:
            low, high = point.interval
            found[name] = {"value": point.mean, "low": low, "high": high, "draws": point.draws}
    return found


def _answers(findings: Findings, question: Question, several: bool) -> dict[str, Any]:
    """What is said of each image: with one label, the class and how likely it and the right one
    are; else all.
    """
    assert findings.probabilities is not None
    if several:
        return {"probabilities": np.round(findings.probabilities.astype(float), DIGITS).tolist()}
    targets = question.data.targets if question.test is None else question.test.targets
    likelihood = findings.probabilities[np.arange(len(targets)), targets]
    confidence = findings.probabilities.max(axis=1)
    return {
        "predicted": [question.names[c] for c in findings.probabilities.argmax(axis=1)],
        "confidence": np.round(confidence.astype(float), DIGITS).tolist(),
        "likelihood": np.round(likelihood.astype(float), DIGITS).tolist(),
    }


def describe_data(learned: LabelledTable, asked: LabelledTable | None) -> dict[str, Any]:
    """Which images and labels, as a scores file has them."""
    tested = asked or learned
    return {
        "test": tested.name,
        "images": len(tested),
        "train": learned.name,
        "train_images": len(learned),
        "classes": class_names(learned.labels),
        "test_sha256": digest(tested.paths(), tested.labels, tested.groups),
        "train_sha256": digest(learned.paths(), learned.labels, learned.groups),
    }


def _protocol(learned: LabelledTable, asked: LabelledTable | None, seed: int) -> dict[str, Any]:
    return {
        "tested_on": "test images" if asked else f"{FOLDS} folds",
        "grouped": learned.groups is not None,
        "several_labels": learned.several,
        "seed": seed,
    }
