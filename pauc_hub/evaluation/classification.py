"""How well classes are predicted: shares of right answers, average precision, confusion. N rows, C classes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pauc_hub.evaluation.folds import Numbers, Targets
from pauc_hub.evaluation.intervals import RESAMPLES, Interval, Weights, bootstrap, wilson

Probabilities = npt.NDArray[np.float32]
"""(N, C)"""
MOST_SORTED = 2e8
"""N C times resamples of the mean average precision, which is the slow one: about 10 s."""
LEAST_RESAMPLES = 200


@dataclass(frozen=True)
class Score:
    """A number in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScore:
    """How one class fared."""

    name: str
    images: int
    recall: float
    """Share of its images that were recognised; NaN where there are none."""
    interval: Interval
    """Of the recall, Wilson's."""
    precision: float
    """Share of the images called so that are; NaN where none is."""
    average_precision: float
    """NaN where there are no images of it, or no others."""


@dataclass(frozen=True)
class Scores:
    """What is measured on N test rows."""

    images: int
    groups: int | None
    """How many, where whole groups were resampled."""
    totals: dict[str, Score]
    """By name: top1, top5, mean_per_class, map; what applies."""
    classes: list[ClassScore]
    confusion: npt.NDArray[np.int64] | None
    """(C, C) true by predicted; None where an image may have several labels."""


def score(
    probabilities: Probabilities, targets: Targets, names: list[str], groups: Numbers | None = None, seed: int = 0
) -> Scores:
    """Score predictions.

    Args:
        probabilities: (N, C), or any scores of which a larger one is more likely; N > 0.
        targets: (N,) class numbers, or (N, C) of 0 and 1.
        groups: (N,) resampled as wholes.
    """
    precisions = AveragePrecisions(probabilities, targets)
    if targets.ndim == 1:
        totals = _single(probabilities, targets, groups, seed)
        confusion = _confusion(probabilities.argmax(axis=1), targets, len(names))
    else:
        totals, confusion = {}, None
    resamples = int(np.clip(MOST_SORTED / probabilities.size, LEAST_RESAMPLES, RESAMPLES))
    low, high = bootstrap(
        lambda times: np.array([_mean(precisions(times))]), len(targets), groups, resamples=resamples, seed=seed
    )[0]
    every = precisions(np.ones(len(targets)))
    totals["map"] = Score(_mean(every), float(low), float(high))
    units = None if groups is None else len(np.unique(groups))
    return Scores(len(targets), units, totals, _by_class(probabilities, targets, names, every), confusion)


def top_k(probabilities: Probabilities, targets: Numbers, k: int) -> npt.NDArray[np.bool_]:
    """(N,) whether fewer than k classes are likelier than the right one; of equals the first goes first."""
    rows = np.arange(len(targets))
    own = probabilities[rows, targets][:, None]
    before = np.arange(probabilities.shape[1]) < targets[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & before)
    within: npt.NDArray[np.bool_] = ahead.sum(axis=1) < k
    return within


class AveragePrecisions:
    """Average precision of each class, for any weights of the rows.

    Area under the steps of precision over recall, with rows of equal score taken together; scikit-learn's definition.
    """

    def __init__(self, probabilities: Probabilities, targets: Targets) -> None:
        self._orders = np.argsort(-probabilities, axis=0, kind="stable")
        self._positive: list[npt.NDArray[np.bool_]] = []
        self._ends: list[Numbers] = []
        for c in range(probabilities.shape[1]):
            order = self._orders[:, c]
            is_class = targets == c if targets.ndim == 1 else targets[:, c] > 0
            self._positive.append(is_class[order])
            ends = np.flatnonzero(np.diff(probabilities[order, c]))
            self._ends.append(np.append(ends, len(order) - 1))

    def __call__(self, times: Weights) -> npt.NDArray[np.float64]:
        """(C,); NaN for a class of which the weighted rows are all or none."""
        each = zip(self._orders.T, self._positive, self._ends, strict=True)
        return np.array([_area(times[order], positive, ends) for order, positive, ends in each])


def _area(times: Weights, positive: npt.NDArray[np.bool_], ends: Numbers) -> float:
    total = np.cumsum(times)[ends]
    found = np.cumsum(times * positive)[ends]
    if found[-1] in (0, total[-1]):
        return float("nan")
    precision = found / total.clip(min=1e-12)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _single(probabilities: Probabilities, targets: Numbers, groups: Numbers | None, seed: int) -> dict[str, Score]:
    first = top_k(probabilities, targets, 1)
    hits = {"top1": first} | ({"top5": top_k(probabilities, targets, 5)} if probabilities.shape[1] > 5 else {})

    def totals(times: Weights) -> npt.NDArray[np.float64]:
        shares = [times @ hit / times.sum() for hit in hits.values()]
        count = np.bincount(targets, weights=times)
        right = np.bincount(targets, weights=times * first)
        return np.array([*shares, (right[count > 0] / count[count > 0]).mean()])

    values = totals(np.ones(len(targets)))
    bounds = bootstrap(totals, len(targets), groups, seed=seed)
    return {
        name: Score(float(value), float(low), float(high))
        for name, value, (low, high) in zip((*hits, "mean_per_class"), values, bounds, strict=True)
    }


def _confusion(predicted: Numbers, targets: Numbers, classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(targets * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _by_class(
    probabilities: Probabilities, targets: Targets, names: list[str], precisions: npt.NDArray[np.float64]
) -> list[ClassScore]:
    called = probabilities > 0.5 if targets.ndim == 2 else _one_hot(probabilities.argmax(axis=1), len(names))
    true = targets > 0 if targets.ndim == 2 else _one_hot(targets, len(names))
    right = (called & true).sum(axis=0)
    scores = []
    for c, name in enumerate(names):
        images = int(true[:, c].sum())
        claims = int(called[:, c].sum())
        recall = right[c] / images if images else float("nan")
        precision = right[c] / claims if claims else float("nan")
        interval = wilson(int(right[c]), images)
        scores.append(ClassScore(name, images, float(recall), interval, float(precision), float(precisions[c])))
    return scores


def _one_hot(numbers: Numbers, classes: int) -> npt.NDArray[np.bool_]:
    hot: npt.NDArray[np.bool_] = numbers[:, None] == np.arange(classes)
    return hot
