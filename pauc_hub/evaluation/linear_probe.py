"""The linear probe: L2 and temperature chosen on rows held out of the training part, then a fit on
all of it.

N rows, D width, C classes. Nothing here ever sees a test row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.evaluation.classification import AveragePrecisions
from pauc_hub.evaluation.design import Design, Features, Rows, measure_standardisation
from pauc_hub.evaluation.folds import Numbers, Targets, fold_numbers, units_of_each_class
from pauc_hub.evaluation.logistic import Fitted, Linear, Problem
from pauc_hub.evaluation.temperature import fit_temperature

L2_VALUES = tuple(10 ** (-6 * step / 7) for step in range(8))
"""From strong to weak: 1 to 1e-6 a row."""
FALLS = 2
"""The path ends after so many scores below the best one."""
HELD_OUT = 10
"""A tenth of the rows is held out, or a fold of FOLDS where that would be too few to choose by."""
FOLDS = 5
LEAST_HELD_OUT = 500
MOST_HELD_OUT = 50_000
LEAST_OF_A_CLASS = 2
MANY = 50_000
"""Rows past which rare classes decide nothing, and cross-validation would take minutes."""
CPU = torch.device("cpu")
SEARCHING, FINAL = 1e-5, 1e-7
"""Nats from the minimum while L2 is chosen, and of the classifier that is kept."""


@dataclass(frozen=True)
class LabelledRows:
    """Rows with their labels."""

    features: Features
    """(N, D)"""
    targets: Targets
    """(N,) class numbers, or (N, C) of 0 and 1."""
    classes: int
    groups: Numbers | None = None
    """(N,) what must not be divided between training and test."""


def _unheard(count: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Resources:
    """What a fit may use, and whom it tells."""

    device: torch.device = CPU
    memory: int = 1 << 30
    """Bytes for standardised copies of the rows; without enough they are made anew for each
    pass.
    """
    quick: torch.dtype = torch.float32
    """Of the products with which each fit begins; bfloat16 where the hardware has it."""
    advance: Callable[[int], None] = _unheard
    """Told after each fit."""


@dataclass(frozen=True)
class Probe:
    """A fitted classifier, and how it came about."""

    model: Linear
    l2: float
    held_out: int
    """Rows by which L2 and temperature were chosen."""
    folds: int
    """In how many parts these were held out; 1 is a single tenth."""
    path: list[tuple[float, float]]
    """Each L2 value that was tried, with its score on the rows held out."""


def fit_probe(data: LabelledRows, rows: Rows, resources: Resources, seed: int = 0) -> Probe:
    """Choose L2 and temperature on held-out parts of `rows`, then fit all of them.

    Args:
        rows: ascending; each class in two of them, and in two groups, at least.
    """
    out = _held_out(data, rows, seed)
    chosen, logits, scores = _choose(data, rows, out, resources)
    everything = np.concatenate(out)
    temperature = fit_temperature(logits, torch.from_numpy(data.targets[everything]))
    final = _problem(data, rows, resources, share=1)
    final.parameters = chosen.parameters
    fitted = final.fit(chosen.l2, FINAL)
    resources.advance(1)
    model = replace(fitted.model, temperature=temperature)
    return Probe(model, chosen.l2, len(everything), len(out), scores)


def predict_out_of_fold(
    data: LabelledRows, resources: Resources, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What probes say about rows that they have not seen: L2, temperature and weights anew for each
    fold.

    Returns:
        (N, C) calibrated probabilities, and what claims() makes of the uncalibrated ones.
    """
    folds = fold_numbers(
        data.targets, _fold_count(data, np.arange(len(data.targets))), data.groups, seed
    )
    probabilities = torch.empty(len(folds), data.classes)
    plain = torch.empty(probabilities.shape if data.targets.ndim == 2 else len(folds))
    for fold in range(int(folds.max()) + 1):
        asked = np.flatnonzero(folds == fold)
        model = fit_probe(data, np.flatnonzero(folds != fold), resources, seed).model
        logits = model.logits(data.features, asked)
        probabilities[asked] = model.probabilities(logits)
        plain[asked] = claims(replace(model, temperature=1.0).probabilities(logits), model.several)
    return probabilities, plain


def claims(probabilities: Tensor, several: bool) -> Tensor:
    """What calibration is about: (N,) of the likeliest class, or (N, C) of all where there may be
    several labels.
    """
    return probabilities if several else probabilities.amax(dim=1)


def _fold_count(data: LabelledRows, rows: Rows) -> int:
    """As many folds as the rarest class can be divided into, at most FOLDS."""
    groups = None if data.groups is None else data.groups[rows]
    units = units_of_each_class(data.targets[rows], data.classes, groups)
    return int(np.clip(units[units > 0].min(initial=FOLDS), 2, FOLDS))


def _held_out(data: LabelledRows, rows: Rows, seed: int) -> list[Rows]:
    """The parts that are held out in turn: one tenth, or all folds of a cross-validation."""
    groups = None if data.groups is None else data.groups[rows]
    targets = data.targets[rows]
    units = units_of_each_class(targets, data.classes, groups)
    few = units[units > 0].min(initial=len(rows)) < LEAST_OF_A_CLASS * HELD_OUT
    if len(rows) < LEAST_HELD_OUT * HELD_OUT or (few and len(rows) < MANY):
        count = _fold_count(data, rows)
        folds = fold_numbers(targets, count, groups, seed)
        return [rows[folds == fold] for fold in range(count)]
    parts = max(HELD_OUT, len(rows) // MOST_HELD_OUT)
    return [rows[fold_numbers(targets, parts, groups, seed) == 0]]


def _choose(
    data: LabelledRows, rows: Rows, out: Sequence[Rows], resources: Resources
) -> tuple[Fitted, Tensor, list[tuple[float, float]]]:
    """The best point of the path, its logits on the rows held out, and the score of each L2
    value.
    """
    asked = np.concatenate(out)
    targets = torch.from_numpy(data.targets[asked])
    problems = [_problem(data, np.setdiff1d(rows, part), resources, share=len(out)) for part in out]
    scores: list[tuple[float, float]] = []
    best: tuple[tuple[float, float], Fitted, Tensor] | None = None
    for l2 in L2_VALUES:
        fits = [problem.fit(l2, SEARCHING) for problem in problems]
        parts = [fit.model.logits(data.features, part) for fit, part in zip(fits, out, strict=True)]
        logits = torch.cat(parts)
        found = _held_out_score(logits, targets)
        scores.append((l2, found[0]))
        resources.advance(1)
        if best is None or found > best[0]:
            best = found, fits[0], logits
        if len(scores) > FALLS and all(score < best[0][0] for _, score in scores[-FALLS:]):
            break
    assert best is not None
    return best[1], best[2], scores


def _held_out_score(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """Accuracy, or mean average precision for several labels; of equals the lower log loss is
    better.
    """
    if targets.ndim == 1:
        right = (logits.argmax(dim=1) == targets).double().mean()
        return float(right), -float(F.cross_entropy(logits, targets))
    each = AveragePrecisions(logits.numpy(), targets.numpy())(np.ones(len(targets)))
    known = each[~np.isnan(each)]
    mean = float(known.mean()) if len(known) else 0.0
    return mean, -float(F.binary_cross_entropy_with_logits(logits, targets.float()))


def _problem(data: LabelledRows, rows: Rows, resources: Resources, share: int) -> Problem:
    standardisation = measure_standardisation(data.features, rows)
    # Half as much again for a copy in bfloat16.
    needed = (
        share * len(rows) * data.features.shape[1] * (4 if resources.quick is torch.float32 else 6)
    )
    in_memory = needed <= resources.memory
    design = Design(
        data.features, rows, standardisation, in_memory=in_memory, device=resources.device
    )
    targets = torch.from_numpy(data.targets[rows])
    return Problem(design, targets, data.classes, standardisation, resources.quick)


def subsets(targets: Targets, share: float, draws: int, seed: int = 0) -> Iterator[Rows]:
    """Stratified draws of a share of the rows, with two of each class at least; one label an
    image.
    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = []
        for label in np.unique(targets):
            rows = np.flatnonzero(targets == label)
            count = min(len(rows), max(2, round(share * len(rows))))
            drawn.append(rng.choice(rows, count, replace=False))
        yield np.sort(np.concatenate(drawn))
