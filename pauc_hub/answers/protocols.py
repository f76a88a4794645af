"""The protocols of `pauc probe`, from labelled features to findings. N training images, M test
images, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pauc_hub.answers.duplicate_threshold import Threshold
from pauc_hub.answers.probe_report import Draws, Findings
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.classification import Scores, score
from pauc_hub.evaluation.design import Features, Rows
from pauc_hub.evaluation.folds import Numbers, Targets, fold_numbers
from pauc_hub.evaluation.intervals import DRAWS, RESAMPLES
from pauc_hub.evaluation.knn import TEMPERATURE, K, choose_k, knn_votes
from pauc_hub.evaluation.linear_probe import (
    FOLDS,
    HELD_OUT,
    LabelledRows,
    Probe,
    Resources,
    claims,
    fit_probe,
    predict_out_of_fold,
    subsets,
)
from pauc_hub.evaluation.low_shot import low_shot_accuracy, pcl_voc07, summary, vissl_voc07
from pauc_hub.evaluation.temperature import reliability

SEMI_SHARES = (0.01, 0.10)
MOST_QUERIES = 5000
"""Of kNN, by which k and temperature are chosen."""


@dataclass(frozen=True, eq=False)
class Tested:
    """Test images."""

    features: Features
    """(M, D)"""
    targets: Targets
    groups: Numbers | None
    copied: npt.NDArray[np.bool_]
    """(M,) whether a copy is among the training images."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a protocol is given."""

    data: LabelledRows
    names: list[str]
    """Of the C classes."""
    test: Tested | None
    resources: Resources
    seed: int
    difficult: tuple[Targets, Targets] | None = None
    """(N, C) and (M, C) of 0 and 1: classes that are hard to tell in an image."""
    copied: Threshold | None = None
    """From which similarity on a test image counts as a copy of a training image; None without test
    images.
    """


def linear(question: Question) -> tuple[Findings, Probe]:
    """Multinomial logistic regression; without test images by cross-validation."""
    data, test = question.data, question.test
    probe = fit_probe(data, np.arange(len(data.targets)), question.resources, question.seed)
    if test:
        logits = probe.model.logits(test.features, np.arange(len(test.targets)))
        probabilities = probe.model.probabilities(logits)
        plain = claims(
            replace(probe.model, temperature=1.0).probabilities(logits), probe.model.several
        )
    else:
        probabilities, plain = predict_out_of_fold(data, question.resources, question.seed)
    chosen_on = "a tenth" if probe.folds == 1 else f"{probe.folds} folds"
    settings = {
        "l2": probe.l2,
        "temperature": probe.model.temperature,
        "chosen_on": f"{chosen_on} of the training images",
        "held_out_images": probe.held_out,
        "path": probe.path,
    }
    return _findings(question, probabilities, settings, plain), probe


def knn(question: Question) -> Findings:
    """Weighted votes of the nearest training images by cosine similarity; how many and how is
    chosen on those.
    """
    return _by_neighbours(question, lambda rows: _choose_neighbours(question, rows))


def standard_knn(question: Question) -> Findings:
    """The same with k = 200, or all where there are fewer, and temperature 0.1, as published scores
    have it.

    Source: Wu et al. 2018; method.md §7.
    """
    return _by_neighbours(question, lambda rows: (min(K, len(rows)), TEMPERATURE))


def _by_neighbours(question: Question, choose: Callable[[Rows], tuple[int, float]]) -> Findings:
    """Votes for each test image, or for each image by the other folds.

    Args:
        choose: k and temperature for a bank of these training images.
    """
    data, test = question.data, question.test
    if data.targets.ndim == 2:
        raise UsageError(
            "protocol=knn needs one label an image, and these have lists. Use protocol=linear."
        )
    every = np.arange(len(data.targets))
    if test:
        k, temperature = choose(every)
        bank, labels = _tensor(data, every), torch.from_numpy(data.targets)
        asked = torch.from_numpy(np.asarray(test.features, np.float32))
        votes = knn_votes(bank, labels, asked, k=k, temperature=temperature, classes=data.classes)
        return _findings(question, votes, {"k": k, "temperature": temperature}, None)
    folds = fold_numbers(data.targets, FOLDS, data.groups, question.seed)
    votes = torch.empty(len(every), data.classes)
    chosen: list[dict[str, object]] = []
    for fold in range(FOLDS):
        rows, out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        k, temperature = choose(rows)
        chosen.append({"k": k, "temperature": temperature})
        labels = torch.from_numpy(data.targets[rows])
        votes[out] = knn_votes(
            _tensor(data, rows),
            labels,
            _tensor(data, out),
            k=k,
            temperature=temperature,
            classes=data.classes,
        )
        question.resources.advance(1)
    alike = all(each == chosen[0] for each in chosen)
    return _findings(
        question, votes, dict(chosen[0]) if alike else {"chosen_by_fold": chosen}, None
    )


def lowshot(question: Question) -> Findings:
    """Linear SVMs on a few images a class; without test images the others are asked about."""
    data, test = question.data, question.test
    if data.targets.ndim == 2:
        raise UsageError(
            "protocol=lowshot needs one label an image, and these have lists. Use "
            "protocol=pcl-voc07."
        )
    asked = None if test is None else (np.asarray(test.features, np.float32), test.targets)
    found = low_shot_accuracy(
        data.features.astype(np.float32), data.targets, asked, data.groups, question.seed
    )
    settings = {"C": 0.5, "features": "unit length", "draws": DRAWS}
    points = [(f"{shot.k} a class", shot) for shot in found]
    return Findings(
        settings,
        _over_draws("test images" if test else "images that were not drawn"),
        draws={"": Draws("top1", points)},
    )


def voc07(question: Question) -> Findings:
    """PCL's low-shot protocol for several labels an image, with VISSL's convention beside it."""
    data, test = question.data, question.test
    if data.targets.ndim == 1:
        raise UsageError(
            "protocol=pcl-voc07 needs a list of labels an image. Use protocol=lowshot for "
            "single labels."
        )
    if test is None:
        raise UsageError("protocol=pcl-voc07 needs test images: give TEST.")
    hard = question.difficult or (np.zeros_like(data.targets), np.zeros_like(test.targets))
    signs = [
        _signs(targets, each)
        for targets, each in zip((data.targets, test.targets), hard, strict=True)
    ]
    if (signs[1] > 0).sum(axis=0).min() == 0:
        lacking = question.names[int((signs[1] > 0).sum(axis=0).argmin())]
        raise UsageError(
            f"no test image is of class '{lacking}', so its average precision is not defined. "
            "Leave it out."
        )
    features = data.features.astype(np.float32)
    asked = np.asarray(test.features, np.float32)
    draws = {}
    for name, protocol in (
        ("PCL: difficult are negatives", pcl_voc07),
        ("VISSL: difficult are left out", vissl_voc07),
    ):
        found = protocol(features, signs[0], asked, signs[1])
        draws[name] = Draws(
            "map", [(f"{shot.k} a class", shot) for shot in found.shots], found.full
        )
        question.resources.advance(1)
    settings = {"C": 0.5, "class_weights": "2 : 1", "features": "unit length", "draws": DRAWS}
    return Findings(settings, _over_draws("test images"), draws=draws)


def semi(question: Question) -> Findings:
    """The linear probe on a hundredth and a tenth of the labels. PCL fine-tunes the network there;
    this does not.
    """
    data, test = question.data, question.test
    if data.targets.ndim == 2:
        raise UsageError(
            "protocol=semi needs one label an image, and these have lists. Use protocol=linear."
        )
    if test is None:
        raise UsageError("protocol=semi needs test images: give TEST.")
    points = []
    for share in SEMI_SHARES:
        scores, images = [], 0
        for rows in subsets(data.targets, share, DRAWS, question.seed):
            model = fit_probe(data, rows, question.resources, question.seed).model
            predicted = (
                model.logits(test.features, np.arange(len(test.targets))).argmax(dim=1).numpy()
            )
            scores.append(float((predicted == test.targets).mean()))
            images = len(rows)
        points.append((f"{share:.0%} ({images} images)", summary(images, scores)))
    settings = {"classifier": "linear probe on frozen features, no fine-tuning", "draws": DRAWS}
    return Findings(settings, _over_draws("test images"), draws={"": Draws("top1", points)})


def fits(protocol: str, has_test: bool) -> int:
    """How often a protocol advances at most, for a progress bar."""
    one = 9
    return {
        "linear": one if has_test else one * (FOLDS + 1),
        "knn": 1 if has_test else FOLDS,
        "pcl-voc07": 2,
        "semi": len(SEMI_SHARES) * DRAWS * one,
    }.get(protocol, 1)


def _findings(
    question: Question, probabilities: Tensor, settings: dict[str, object], plain: Tensor | None
) -> Findings:
    data, test = question.data, question.test
    targets = test.targets if test else data.targets
    groups = test.groups if test else data.groups
    values = probabilities.numpy()
    scores = score(values, targets, question.names, groups, question.seed)
    without = None
    if test and test.copied.any() and not test.copied.all():
        kept = ~test.copied
        left = None if groups is None else groups[kept]
        without = score(values[kept], targets[kept], question.names, left, question.seed)
    calibrated = uncalibrated = None
    if plain is not None:
        several = targets.ndim == 2
        true = targets > 0 if several else values.argmax(axis=1) == targets
        calibrated = reliability(claims(probabilities, several).numpy().ravel(), true.ravel())
        uncalibrated = reliability(plain.numpy().ravel(), true.ravel()).error
    return Findings(
        settings,
        _over_images(scores, test is not None),
        scores,
        without,
        calibrated,
        uncalibrated,
        probabilities=values,
    )


def _over_images(scores: Scores, tested: bool) -> str:
    what = f"{scores.groups} groups of " if scores.groups is not None else ""
    images = f"{RESAMPLES} bootstrap resamples of the {what}{scores.images} "
    if tested:
        return f"{images}test images; the training images are fixed"
    return f"{images}images, each predicted by a classifier that had not seen it"


def _over_draws(asked: str) -> str:
    return f"Student's t over {DRAWS} draws of training images; the {asked} are taken as they are"


def _choose_neighbours(question: Question, rows: Rows) -> tuple[int, float]:
    data = question.data
    targets = data.targets[rows]
    groups = None if data.groups is None else data.groups[rows]
    folds = fold_numbers(targets, HELD_OUT, groups, question.seed)
    out = rows[folds == 0][:MOST_QUERIES]
    bank = rows[folds != 0]
    labels, truth = (torch.from_numpy(data.targets[part]) for part in (bank, out))
    k, temperature, _ = choose_k(
        [(_tensor(data, bank), labels, _tensor(data, out), truth)], data.classes
    )
    return k, temperature


def _tensor(data: LabelledRows, rows: Rows) -> Tensor:
    return torch.from_numpy(np.asarray(data.features[rows], np.float32))


def _signs(targets: Targets, difficult: Targets) -> Targets:
    """1 for a class that is there, 0 where it is there but difficult, else -1."""
    return np.where(difficult > 0, 0, np.where(targets > 0, 1, -1))
