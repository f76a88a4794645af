"""The function behind `pauc compare`: are two networks different on the same images, and is that
more than chance?

Differences are second minus first. N images.
"""

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.labelled import group_numbers
from pauc_hub.answers.measures import Asked, measure
from pauc_hub.answers.scores_file import SUFFIX, ScoresFile, read_scores
from pauc_hub.errors import ArtefactError, UsageError
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
from pauc_hub.models.catalog import locate
from pauc_hub.tables.stored import is_table

MARGIN = 0.01
FEWER_FLIPS = 1000
"""Of several labels an image, where each takes a sort."""
COMPARED = frozenset({"linear", "knn", "lowshot", "clustering"})
ANSWERED = ("linear", "knn")
"""Evaluations that have an answer for each image."""

Answers = npt.NDArray[Any]
"""(N,) or (N, C): what one network says of each image."""
Score = Callable[[Answers, Weights], float]
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


@dataclass(frozen=True)
class Flips:
    """How many images which network got right."""

    both: int
    first_only: int
    second_only: int
    neither: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """What compare() returns."""

    first: ScoresFile
    second: ScoresFile
    margin: float
    images: int
    groups: int | None
    flips: dict[str, Flips]
    """By evaluation: linear and knn."""
    scores: list[Compared]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "first": self.first.origin.to_dict(),
            "second": self.second.origin.to_dict(),
            "data": self.first.data,
            "protocol": self.first.protocol,
            "margin": self.margin,
            "images": self.images,
            "groups": self.groups,
            "flips": {name: asdict(flips) for name, flips in self.flips.items()},
            "scores": [asdict(each) for each in self.scores],
        }


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both files, with their images in one order."""

    first: ScoresFile
    second: ScoresFile
    orders: tuple[Numbers, Numbers]
    """(N,) rows of each, by path."""
    groups: Numbers | None
    margin: float
    seed: int

    def column(self, name: str, part: str | None = None) -> tuple[Answers, Answers]:
        """(N,) or (N, C) of both."""
        found = []
        for file, order in zip((self.first, self.second), self.orders, strict=True):
            values = file.predictions[name] if part is None else file.predictions[name][part]
            found.append(np.array(values)[order])
        return found[0], found[1]


def compare(
    first: str | Path,
    second: str | Path,
    data: str | Path | None = None,
    *,
    test: str | Path | None = None,
    space: str | None = None,
    labels: str | Path | None = None,
    label_column: str | None = None,
    group: str | None = None,
    margin: float = MARGIN,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Comparison:
    """Compare two networks by what evaluate() finds of them on the same images.

    Two networks are compared, not two methods of training: those differ from seed to seed, so train
    each several times.

        >>> found = compare("first.scores.json", "second.scores.json", quiet=True)
        >>> [score.verdict for score in found.scores if score.measure == "top1"]
        ['not_told_apart', 'not_told_apart']

    Args:
        first, second: scores files; or two models, which are measured on `data`. Differences are
            second minus first.
        data: labelled images; these and the options that follow are those of evaluate().
        margin: a difference that matters, in (0, 1); 0.01 is one point.
        seed: of folds and draws of an evaluation, and of resamples.
        device: where images are embedded and classifiers fitted.
        quiet: neither progress bars nor a word on stderr.

    Raises:
        ArtefactError: a file is no scores file, or damaged.
        UsageError: the files are of different images, labels, classes, or protocols; as evaluate()
            does.
        PaucError: as embed() does.
    """
    if not 0 < margin < 1:
        raise UsageError(f"margin={margin} must lie between 0 and 1; 0.01 is one point.")
    names = (str(first), str(second))
    if data is None:
        given = {
            "test": test,
            "space": space,
            "labels": labels,
            "label_column": label_column,
            "group": group,
        }
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(
                f"{extra[0]}={given[extra[0]]} is for two models and their images, and scores "
                "files are measured "
                "already: leave it out."
            )
        _require_files(names)
        files = (read_scores(Path(first)), read_scores(Path(second)))
    else:
        files = _measured(
            names,
            Asked(data, test, space, labels, label_column, group, seed, device, quiet, COMPARED),
        )
    pair = _pair(files, names, margin, seed)
    try:
        return _compared(pair)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ArtefactError(
            f"'{first}' or '{second}' is damaged. Make both again with `pauc eval`."
        ) from error


def _require_files(names: tuple[str, str]) -> None:
    """Say what is missing where two models are given alone."""
    for name in names:
        if not Path(name).is_file() and Path(name).suffix != ".json":
            raise UsageError(
                f"'{name}' is no scores file. To compare two models, give labelled images after "
                "them: "
                f"`pauc compare {shlex.join(names)} IMAGES`."
            )


def _measured(models: tuple[str, str], asked: Asked) -> tuple[ScoresFile, ScoresFile]:
    """What both are found to be, once it is certain that they are two models, and images."""
    if is_table(Path(asked.data)):
        raise UsageError(
            f"'{asked.data}' is a table, which one model made. Give the images, which both can "
            "embed."
        )
    for name in models:
        if name.endswith(SUFFIX):
            raise UsageError(
                f"'{name}' is a scores file, which needs no images: leave '{asked.data}' out."
            )
        locate(name)
    first, second = (measure(model, asked)[0] for model in models)
    return first, second


def _compared(pair: _Pair) -> Comparison:
    flips: dict[str, Flips] = {}
    scores: list[Compared] = []
    several = bool(pair.first.protocol["several_labels"])
    for name in ANSWERED:
        if name not in pair.first.predictions or name not in pair.second.predictions:
            continue
        if several:
            scores.append(_precision(pair, name))
            continue
        label, _ = pair.column("label")
        right = [predicted == label for predicted in pair.column(name, "predicted")]
        flips[name] = _flips(*right)
        scores.append(_accuracy(pair, name, right[0], right[1]))
        scores.append(_per_class(pair, name, right[0], right[1]))
    scores += _draws(pair)
    if not several:
        scores += _clusterings(pair)
    return Comparison(
        pair.first,
        pair.second,
        pair.margin,
        len(pair.orders[0]),
        None if pair.groups is None else len(np.unique(pair.groups)),
        flips,
        scores,
    )


def _pair(
    files: tuple[ScoresFile, ScoresFile], names: tuple[str, str], margin: float, seed: int
) -> _Pair:
    """Both, once it is certain that they can be compared.

    Args:
        names: for messages.
    """
    first, second = names
    data = [file.data for file in files]
    for what, key in (
        ("test images or labels", "test_sha256"),
        ("training images or labels", "train_sha256"),
    ):
        if data[0].get(key) != data[1].get(key):
            counts = " and ".join(
                (f"{each.get('images')} images of '{each.get('test')}'") for each in data
            )
            raise UsageError(
                f"'{first}' and '{second}' are of different {what} ({counts}). Evaluate both "
                "models on the same."
            )
    protocols = [file.protocol for file in files]
    keys = sorted({*protocols[0], *protocols[1]})
    differs = [key for key in keys if protocols[0].get(key) != protocols[1].get(key)]
    if differs:
        key = differs[0]
        raise UsageError(
            f"'{first}' and '{second}' are of different protocols: {key} is "
            f"{protocols[0].get(key)} and "
            f"{protocols[1].get(key)}. Evaluate both models alike."
        )
    orders = [np.argsort(np.array(file.predictions["path"]), kind="stable") for file in files]
    groups = files[0].predictions.get("group")
    numbers = None if groups is None else group_numbers(groups)[orders[0]]
    return _Pair(files[0], files[1], (orders[0], orders[1]), numbers, margin, seed)


def _flips(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Flips:
    return Flips(
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((second & ~first).sum()),
        int((~first & ~second).sum()),
    )


def _accuracy(
    pair: _Pair, name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> Compared:
    def share(right: Answers, times: Weights) -> float:
        return float(times @ right / times.sum())

    if pair.groups is None:
        return _judged(
            pair, name, "top1", first.mean(), second.mean(), accuracy_difference(first, second)
        )
    return _resampled(pair, name, "top1", share, (first, second))


def _per_class(
    pair: _Pair, name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> Compared:
    _, targets = np.unique(pair.column("label")[0], return_inverse=True)

    def mean(right: Answers, times: Weights) -> float:
        count = np.bincount(targets, weights=times)
        hits = np.bincount(targets, weights=times * right)
        return float((hits[count > 0] / count[count > 0]).mean())

    return _resampled(pair, name, "mean_per_class", mean, (first, second))


def _precision(pair: _Pair, name: str) -> Compared:
    """Mean average precision, of several labels an image."""
    classes = pair.first.data["classes"]
    labels = [pair.first.predictions["label"][row] for row in pair.orders[0]]
    targets = np.array([[each in label for each in classes] for label in labels], np.int64)

    answers = pair.column(name, "probabilities")
    # sorted once for all resamples; exchanges of the two are sorted anew
    known = {id(each): AveragePrecisions(each, targets) for each in answers}

    def mean(probabilities: Answers, times: Weights) -> float:
        precisions = known.get(id(probabilities)) or AveragePrecisions(probabilities, targets)
        return float(np.nanmean(precisions(times)))

    return _resampled(pair, name, "map", mean, answers)


def _clusterings(pair: _Pair) -> list[Compared]:
    """NMI and ARI of each network's first clustering with the classes."""
    _, targets = np.unique(pair.column("label")[0], return_inverse=True)
    classes = int(targets.max()) + 1
    agreements = {"nmi": nmi_of_counts, "ari": adjusted_rand_of_counts}
    found = []
    for name, of_counts in agreements.items():

        def agreement(
            clusters: Answers,
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
        found.append(
            _resampled(
                pair, "clustering", name, agreement, pair.column("cluster"), exchangeable=False
            )
        )
    return found


def _draws(pair: _Pair) -> list[Compared]:
    """Low shots: both networks were taught by the same draws of training images."""
    found = []
    first, second = (file.scores.get("lowshot", {}) for file in (pair.first, pair.second))
    for name in (each for each in first if each in second):
        difference = draws_difference(first[name]["draws"], second[name]["draws"])
        found.append(
            _judged(pair, "lowshot", name, first[name]["value"], second[name]["value"], difference)
        )
    return found


def _resampled(
    pair: _Pair,
    evaluation: str,
    measure: str,
    score: Score,
    answers: tuple[Answers, Answers],
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
            return score(np.where(where, first, second), every) - score(
                np.where(where, second, first), every
            )

        flips = SIGN_FLIPS if first.ndim == 1 else FEWER_FLIPS
        p_value = sign_flip_p(swapped, pair.groups, flips=flips, seed=pair.seed)
        difference = Difference(
            difference.value,
            difference.interval,
            difference.inner,
            f"{difference.method}; sign flips over groups",
            p_value,
        )
    return _judged(pair, evaluation, measure, score(first, every), score(second, every), difference)


def _judged(
    pair: _Pair, evaluation: str, measure: str, first: float, second: float, difference: Difference
) -> Compared:
    needed = None
    if evaluation != "lowshot":
        units = len(pair.orders[0]) if pair.groups is None else len(np.unique(pair.groups))
        needed = images_needed(difference, units, pair.margin)
    return Compared(
        evaluation,
        measure,
        float(first),
        float(second),
        difference,
        verdict(difference, pair.margin),
        needed,
    )
