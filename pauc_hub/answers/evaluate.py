"""The function behind `pauc eval`: all measures of one or several models on labelled images."""

import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pauc_hub.answers import protocols
from pauc_hub.answers.alignment import measure_alignment
from pauc_hub.answers.assignments import check_place
from pauc_hub.answers.card_scores import require_own_card, write_into_card
from pauc_hub.answers.evaluation_plot import write_evaluation_plot
from pauc_hub.answers.labelled import LabelledTable, class_names, group_numbers
from pauc_hub.answers.probe_plot import SUFFIXES as PICTURES
from pauc_hub.answers.probe_plot import check_plots
from pauc_hub.answers.probe_report import Findings
from pauc_hub.answers.protocols import Question
from pauc_hub.answers.questions import notes_of, open_labelled, pose_question
from pauc_hub.answers.scores_file import SUFFIX, ScoresFile, digest, write_scores
from pauc_hub.answers.separation import measure_clusters, measure_geometry
from pauc_hub.errors import PaucError, UsageError
from pauc_hub.evaluation.linear_probe import FOLDS
from pauc_hub.models.catalog import DEFAULT_MODEL, locate
from pauc_hub.progress import progress_bar
from pauc_hub.sources import open_source
from pauc_hub.sources.annotations import Wanted, read_labels_file
from pauc_hub.tables.stored import is_table
from pauc_hub.tables.table import companion

EVALUATIONS = frozenset({"linear", "knn", "lowshot", "clustering", "geometry"})
DIGITS = 6
"""Of probabilities in a scores file."""
NEEDS_EVAL = "needs the extra eval: `pip install 'pauc-hub[eval]'`"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What evaluate() found of one model."""

    file: ScoresFile
    output: Path
    notes: list[str] = field(default_factory=list)
    card: Path | None = None
    """The model folder into whose card the scores went."""


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


def evaluate(
    models: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    test: str | Path | None = None,
    output: str | Path | None = None,
    plot: str | Path | None = None,
    into_card: bool = False,
    space: str | None = None,
    labels: str | Path | None = None,
    label_column: str | None = None,
    group: str | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Evaluation]:
    """Measure models on labelled images: linear probe, kNN, low shots, clusterings, and the
    geometry of features.

        >>> (found,) = evaluate("pauc_resnet18", "labelled/", output="mine.scores.json", quiet=True)
        >>> found.file.scores["linear"]["top1"]["value"]
        1.0

    Images are embedded once for each model, and each gets a scores file, which compare() takes.

    Args:
        models: what `pauc embed` takes as a model; none where `data` is a table.
        data: labelled images, or a table of them. Below folders named train and val or test, these
            are the training and the test images; otherwise, without `test`, they are
            cross-validated in five folds.
        test: test images.
        output: the scores file, .scores.json, or a folder for those of several models; beside the
            images unless given.
        plot: picture of confusion, calibration and low shots of all models, .png or .svg.
        into_card: write the scores into each model folder too: facts.json, README.md and
            SHA256SUMS.
        space: to embed images in; `backbone` unless given.
        labels, label_column, group: as for probe().
        seed: of folds, draws, clusterings and resamples.
        device: where images are embedded and classifiers fitted.
        overwrite: replace scores files that are there.
        quiet: neither progress bars nor a word on stderr.

    Raises:
        UsageError: labels are missing, do not match, or are too few; a table and models are given;
            `into_card` of a model whose folder is not the user's own.
        PaucError: as embed() does.
    """
    chosen = [str(models)] if isinstance(models, str | Path) else [str(each) for each in models]
    if is_table(Path(data)) and chosen:
        raise UsageError(
            f"'{data}' is a table, which a model made already. Leave '{chosen[0]}' out, or give "
            "images."
        )
    if is_table(Path(data)) and into_card:
        raise UsageError(
            f"into_card=True needs a model, and '{data}' is a table. Give the model and the images."
        )
    if not is_table(Path(data)):
        chosen = chosen or [DEFAULT_MODEL]
    for name in chosen:
        locate(name)
    asked = Asked(data, test, space, labels, label_column, group, seed, device, quiet)
    if plot:
        check_place(Path(plot), PICTURES, overwrite)
        check_plots()
    if into_card:
        for name in chosen:
            require_own_card(name)
    outputs = _outputs(chosen, data, output, overwrite)
    found = []
    each_model: list[str | None] = [*chosen] or [None]
    for model, place in zip(each_model, outputs, strict=True):
        scores, notes = measure(model, asked)
        write_scores(place, scores)
        card = (
            write_into_card(model, scores, _command(model, asked)) if into_card and model else None
        )
        found.append(Evaluation(scores, place, notes, card))
    if plot:
        _plot(found, chosen, Path(plot))
    return found


def _plot(found: list[Evaluation], models: Sequence[str], path: Path) -> None:
    if found[0].file.protocol["several_labels"]:
        found[0].notes.append(
            f"'{path}' is not drawn: images with several labels have neither confusion nor low "
            "shots"
        )
        return
    names = [Path(model).name for model in models] or [found[0].file.origin.model]
    write_evaluation_plot([each.file for each in found], names, path)


def measure(model: str | None, asked: Asked) -> tuple[ScoresFile, list[str]]:
    """All measures of one model, and what a user should know of how labels were found.

    Args:
        model: None where the data are a table.

    Raises:
        UsageError: labels are missing, do not match, or are too few.
        PaucError: as embed() does.
    """
    learned, tested = open_asked(model, asked)
    return measure_opened(learned, tested, model, asked), notes_of(learned, tested)


def open_asked(model: str | None, asked: Asked) -> tuple[LabelledTable, LabelledTable | None]:
    """The training and the test images, embedded where need be; raises what measure() does."""
    wanted = Wanted(asked.label_column, asked.group)
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
) -> ScoresFile:
    """All measures of what open_asked() gave."""
    scores = _evaluate(learned, tested, asked)
    if "geometry" in asked.only:
        _add_alignment(scores, tested or learned, model, asked)
    return scores


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


def _command(model: str, asked: Asked) -> str:
    """What measures the same again."""
    options = {
        "--test": asked.test,
        "--labels": asked.labels,
        "--label-column": asked.label_column,
        "--group": asked.group,
        "--space": asked.space,
        "--seed": asked.seed or None,
    }
    given = [
        str(part)
        for option, value in options.items()
        if value is not None
        for part in (option, value)
    ]
    return shlex.join(["pauc", "eval", model, str(asked.data), *given])


def _outputs(
    models: list[str], data: str | Path, output: str | Path | None, overwrite: bool
) -> list[Path]:
    """Where each scores file goes, once it is known that it can."""
    names = [Path(model).name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(
            f"two models are named '{twice}', and so would their scores be. Evaluate one after "
            "the other."
        )
    if output and len(names) < 2 and not Path(output).is_dir():
        places = [Path(output)]
    elif output and not Path(output).is_dir():
        raise UsageError(
            f"output='{output}' must be a folder that exists, for the scores of {len(names)} "
            "models."
        )
    else:
        beside = Path(data).absolute() if Path(data).name in ("", "..") else Path(data)
        if not output and not beside.exists():
            # which says if there is nothing at all
            open_source(data)
            raise UsageError(f"the scores of '{data}' need a place: give output=PLACE{SUFFIX}.")
        named = [companion(beside, f".{name}{SUFFIX}") for name in names] or [
            companion(beside, SUFFIX)
        ]
        places = [Path(output) / each.name for each in named] if output else named
    for place in places:
        check_place(place, (SUFFIX,), overwrite)
    return places


def _evaluate(learned: LabelledTable, test: LabelledTable | None, asked: Asked) -> ScoresFile:
    """All but alignment, which needs the images."""
    classes = class_names(learned.labels)
    question, copies = pose_question(learned, test, classes, asked.device, asked.seed, asked.quiet)
    tested = test or learned
    file = ScoresFile(
        origin=learned.given.origin,
        data=describe_data(learned, test) | {"copies": len(copies)},
        protocol=_protocol(learned, test, asked.seed),
        settings={},
        scores={},
        intervals={},
        left_out={},
        predictions={"path": tested.paths(), "label": tested.labels, "group": tested.groups},
        unreadable=learned.given.unreadable
        + (test.given.unreadable if test and test.given is not learned.given else 0),
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
    points = torch.nn.functional.normalize(
        torch.from_numpy(np.asarray(given.features, np.float32)), dim=1
    )
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
    found = [("linear", protocols.linear(question)[0])] if "linear" in only else []
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
        found |= {
            f"{name}_without_copies": asdict(each)
            for name, each in findings.without_copies.totals.items()
        }
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
    own = findings.probabilities[np.arange(len(targets)), targets]
    predicted = [question.names[c] for c in findings.probabilities.argmax(axis=1)]
    return {
        "predicted": predicted,
        "confidence": np.round(findings.probabilities.max(axis=1).astype(float), DIGITS).tolist(),
        "likelihood": np.round(own.astype(float), DIGITS).tolist(),
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
