"""How well classes are predicted: shares of right answers, average precision, confusion. N rows, C
classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pauc_hub.evaluation.folds import Numbers, Targets
from pauc_hub.evaluation.intervals import RESAMPLES, Interval, Weights, bootstrap, wilson

Probabilities = npt.NDArray[np.float32]
"""(N, C)"""
MOST_SORTED = 4e8
"""N C times resamples of the mean average precision, which is the slow one: about 10 s."""
LEAST_RESAMPLES = 200
LARGEST_SORTED = 2e7
"""N C beyond which average precision is left out where an image has one label."""


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
    probabilities: Probabilities,
    targets: Targets,
    names: list[str],
    groups: Numbers | None = None,
    seed: int = 0,
) -> Scores:
    """Score predictions.

    Args:
        probabilities: (N, C), or any scores of which a larger one is more likely; N > 0.
        targets: (N,) class numbers, or (N, C) of 0 and 1.
        groups: (N,) resampled as wholes.
    """
    totals: dict[str, Score] = {}
    confusion = None
    if targets.ndim == 1:
        totals = _single(probabilities, targets, groups, seed)
        confusion = _confusion(probabilities.argmax(axis=1), targets, len(names))
    each = np.full(len(names), np.nan)
    if targets.ndim == 2 or probabilities.size <= LARGEST_SORTED:
        precisions = AveragePrecisions(probabilities, targets)
        each = precisions(np.ones(len(targets)))
        totals["map"] = _mean_precision(precisions, each, probabilities.size, groups, seed)
    units = None if groups is None else len(np.unique(groups))
    return Scores(
        len(targets), units, totals, _by_class(probabilities, targets, names, each), confusion
    )


def top_k(probabilities: Probabilities, targets: Numbers, k: int) -> npt.NDArray[np.bool_]:
    """(N,) whether fewer than k classes are likelier than the right one; of equals the first goes
    first.
    """
    rows = np.arange(len(targets))
    own = probabilities[rows, targets][:, None]
    before = np.arange(probabilities.shape[1]) < targets[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & before)
    within: npt.NDArray[np.bool_] = ahead.sum(axis=1) < k
    return within


class AveragePrecisions:
    """Average precision of each class, for any weights of the rows.

    Area under the steps of precision over recall, with rows of equal score taken together;
    scikit-learn's definition.
    """

    def __init__(self, probabilities: Probabilities, targets: Targets) -> None:
        self.rows, self._classes = probabilities.shape
        is_class = (
            targets[:, None] == np.arange(self._classes) if targets.ndim == 1 else targets > 0
        )
        # (N, C) rows of each class, likeliest first
        self._orders = np.argsort(-probabilities, axis=0, kind="stable").astype(np.int32)
        ranked = np.take_along_axis(probabilities, self._orders, axis=0)
        self._positive = np.take_along_axis(is_class, self._orders, axis=0)
        self._hits = np.nonzero(self._positive)
        # where the rows of equal score end among which a hit stands
        last = np.append(ranked[1:] != ranked[:-1], np.ones((1, self._classes), np.bool_), axis=0)
        ends = np.where(last, np.arange(self.rows, dtype=np.int32)[:, None], self.rows)
        self._ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1][self._hits]

    def __call__(self, times: Weights) -> npt.NDArray[np.float64]:
        """(C,); NaN for a class of which the weighted rows are all or none."""
        drawn = times[self._orders]
        total = np.cumsum(drawn, axis=0)
        found = np.cumsum(drawn * self._positive, axis=0)
        _, classes = self._hits
        precision = found[self._ends, classes] / total[self._ends, classes].clip(min=1e-12)
        areas = np.bincount(classes, weights=drawn[self._hits] * precision, minlength=self._classes)
        known = (found[-1] > 0) & (found[-1] < total[-1])
        return np.where(known, areas / found[-1].clip(min=1e-12), np.nan)


def _mean_precision(
    precisions: AveragePrecisions,
    each: npt.NDArray[np.float64],
    size: int,
    groups: Numbers | None,
    seed: int,
) -> Score:
    def mean(times: Weights) -> npt.NDArray[np.float64]:
        return np.array([_mean(precisions(times))])

    resamples = int(np.clip(MOST_SORTED / size, LEAST_RESAMPLES, RESAMPLES))
    low, high = bootstrap(mean, precisions.rows, groups, resamples=resamples, seed=seed)[0]
    return Score(_mean(each), float(low), float(high))


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _single(
    probabilities: Probabilities, targets: Numbers, groups: Numbers | None, seed: int
) -> dict[str, Score]:
    first = top_k(probabilities, targets, 1)
    hits = {"top1": first} | (
        {"top5": top_k(probabilities, targets, 5)} if probabilities.shape[1] > 5 else {}
    )

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
    return np.bincount(targets * classes + predicted, minlength=classes**2).reshape(
        classes, classes
    )


def _by_class(
    probabilities: Probabilities,
    targets: Targets,
    names: list[str],
    precisions: npt.NDArray[np.float64],
) -> list[ClassScore]:
    called = (
        probabilities > 0.5
        if targets.ndim == 2
        else _one_hot(probabilities.argmax(axis=1), len(names))
    )
    true = targets > 0 if targets.ndim == 2 else _one_hot(targets, len(names))
    right = (called & true).sum(axis=0)
    scores = []
    for c, name in enumerate(names):
        images = int(true[:, c].sum())
        claims = int(called[:, c].sum())
        recall = right[c] / images if images else float("nan")
        precision = right[c] / claims if claims else float("nan")
        interval = wilson(int(right[c]), images)
        scores.append(
            ClassScore(
                name, images, float(recall), interval, float(precision), float(precisions[c])
            )
        )
    return scores


def _one_hot(numbers: Numbers, classes: int) -> npt.NDArray[np.bool_]:
    hot: npt.NDArray[np.bool_] = numbers[:, None] == np.arange(classes)
    return hot
