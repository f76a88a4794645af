"""How much two networks differ on the same images, measure by measure: a difference, its interval
and a verdict.

Differences are second minus first. N images, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.scores_file import ScoresFile
from pauc_hub.evaluation.classification import AveragePrecisions
from pauc_hub.evaluation.folds import Numbers
from pauc_hub.evaluation.intervals import Weights
from pauc_hub.evaluation.paired import (
    SIGN_FLIPS,
    Difference,
    accuracy_difference,
    bootstrap_difference,
    draws_difference,
    images_needed,
    sign_flip_p,
    verdict,
)
from pauc_hub.evaluation.partitions import adjusted_rand_of_counts, nmi_of_counts

FEWER_FLIPS = 1000
"""Of several labels an image, where each takes a sort."""

_Answers = npt.NDArray[Any]
"""(N,) or (N, C): what one network says of each image."""
_Score = Callable[[_Answers, Weights], float]
"""From answers, and how often each image was drawn, to a score."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One score of both networks."""

    evaluation: str
    measure: str
    first: float
    second: float
    difference: Difference
    verdict: str
    """`better_beyond_margin`, `better_within_margin`, `equivalent` or `not_told_apart`."""
    images_needed: int | None
    """To tell a difference of the margin; of groups, where there are some. None for draws, and
    where not known.
    """


@dataclass(frozen=True, eq=False)
class Pair:
    """Both files, with their images in one order."""

    first: ScoresFile
    second: ScoresFile
    orders: tuple[Numbers, Numbers]
    """(N,) rows of each, by path."""
    groups: Numbers | None
    margin: float
    seed: int

    def column(self, name: str, part: str | None = None) -> tuple[_Answers, _Answers]:
        """(N,) or (N, C) of both."""
        found = []
        for file, order in zip((self.first, self.second), self.orders, strict=True):
            values = file.predictions[name] if part is None else file.predictions[name][part]
            found.append(np.array(values)[order])
        return found[0], found[1]


def top1_difference(
    pair: Pair, name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> Compared:
    """Accuracy, of answers that are (N,) right or not; exact where no images belong together."""

    def share(right: _Answers, times: Weights) -> float:
        return float(times @ right / times.sum())

    if pair.groups is None:
        difference = accuracy_difference(first, second)
        return _judged(pair, name, "top1", first.mean(), second.mean(), difference)
    return _resampled(pair, name, "top1", share, (first, second))


def per_class_difference(
    pair: Pair, name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> Compared:
    """Mean over the classes of their accuracies, of answers that are (N,) right or not."""
    _, targets = np.unique(pair.column("label")[0], return_inverse=True)

    def mean(right: _Answers, times: Weights) -> float:
        count = np.bincount(targets, weights=times)
        hits = np.bincount(targets, weights=times * right)
        return float((hits[count > 0] / count[count > 0]).mean())

    return _resampled(pair, name, "mean_per_class", mean, (first, second))


def precision_difference(pair: Pair, name: str) -> Compared:
    """Mean average precision, of several labels an image."""
    classes = pair.first.data["classes"]
    labels = [pair.first.predictions["label"][row] for row in pair.orders[0]]
    targets = np.array([[each in label for each in classes] for label in labels], np.int64)
    answers = pair.column(name, "probabilities")
    # sorted once for all resamples; exchanges of the two are sorted anew
    known = {id(each): AveragePrecisions(each, targets) for each in answers}

    def mean(probabilities: _Answers, times: Weights) -> float:
        precisions = known.get(id(probabilities)) or AveragePrecisions(probabilities, targets)
        return float(np.nanmean(precisions(times)))

    return _resampled(pair, name, "map", mean, answers)


def clustering_differences(pair: Pair) -> list[Compared]:
    """NMI and ARI of each network's first clustering with the classes."""
    _, targets = np.unique(pair.column("label")[0], return_inverse=True)
    classes = int(targets.max()) + 1
    agreements = {"nmi": nmi_of_counts, "ari": adjusted_rand_of_counts}
    found = []
    for name, of_counts in agreements.items():

        def agreement(
            clusters: _Answers,
            times: Weights,
            of_counts: Callable[[npt.NDArray[np.float64]], float] = of_counts,
        ) -> float:
            width = int(clusters.max()) + 1
            cells = np.bincount(
                targets * width + clusters, weights=times, minlength=classes * width
            )
            return of_counts(cells.reshape(classes, width).astype(np.float64))

        # the numbers of clusters mean something within one clustering, so that networks cannot be
        # exchanged by group
        clusters = pair.column("cluster")
        found.append(_resampled(pair, "clustering", name, agreement, clusters, exchangeable=False))
    return found


def low_shot_differences(pair: Pair) -> list[Compared]:
    """Low shots: both networks were taught by the same draws of training images."""
    found = []
    first, second = (file.scores.get("lowshot", {}) for file in (pair.first, pair.second))
    for name in (each for each in first if each in second):
        one, other = first[name], second[name]
        difference = draws_difference(one["draws"], other["draws"])
        found.append(_judged(pair, "lowshot", name, one["value"], other["value"], difference))
    return found


def _resampled(
    pair: Pair,
    evaluation: str,
    measure: str,
    score: _Score,
    answers: tuple[_Answers, _Answers],
    exchangeable: bool = True,
) -> Compared:
    """By a BCa bootstrap; with groups by one over groups, and their sign flips."""
    first, second = answers
    every = np.ones(len(first))
    difference = bootstrap_difference(
        lambda times: score(second, times) - score(first, times),
        len(first),
        pair.groups,
        seed=pair.seed,
    )
    if pair.groups is not None and exchangeable:

        def swapped(flip: npt.NDArray[np.bool_]) -> float:
            where = flip.reshape(-1, *[1] * (first.ndim - 1))
            one = score(np.where(where, second, first), every)
            other = score(np.where(where, first, second), every)
            return other - one

        flips = SIGN_FLIPS if first.ndim == 1 else FEWER_FLIPS
        p_value = sign_flip_p(swapped, pair.groups, flips=flips, seed=pair.seed)
        method = f"{difference.method}; sign flips over groups"
        difference = replace(difference, method=method, p_value=p_value)
    return _judged(pair, evaluation, measure, score(first, every), score(second, every), difference)


def _judged(
    pair: Pair, evaluation: str, measure: str, first: float, second: float, difference: Difference
) -> Compared:
    needed = None
    if evaluation != "lowshot":
        units = len(pair.orders[0]) if pair.groups is None else len(np.unique(pair.groups))
        needed = images_needed(difference, units, pair.margin)
    return Compared(
        evaluation=evaluation,
        measure=measure,
        first=float(first),
        second=float(second),
        difference=difference,
        verdict=verdict(difference, pair.margin),
        images_needed=needed,
    )
