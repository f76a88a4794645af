"""The function behind `pauc compare`: are two networks different on the same images, and is that
more than chance?

Differences are second minus first. N images.
"""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.differences import (
    Compared,
    Pair,
    clustering_differences,
    low_shot_differences,
    per_class_difference,
    precision_difference,
    top1_difference,
)
from pauc_hub.answers.labelled import group_numbers
from pauc_hub.answers.measures import Asked, measure
from pauc_hub.answers.scores_file import SCORES_SUFFIX, ScoresFile, read_scores
from pauc_hub.errors import ArtefactError, UsageError
from pauc_hub.models.catalog import locate
from pauc_hub.tables.stored import is_table

MARGIN = 0.01
COMPARED = frozenset({"linear", "knn", "lowshot", "clustering"})
ANSWERED = ("linear", "knn")
"""Evaluations that have an answer for each image."""


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
                "files are measured already: leave it out."
            )
        _require_files(names)
        files = (read_scores(Path(first)), read_scores(Path(second)))
    else:
        asked = Asked(data, test, space, labels, label_column, group, seed, device, quiet, COMPARED)
        files = _measured(names, asked)
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
                f"them: `pauc compare {shlex.join(names)} IMAGES`."
            )


def _measured(models: tuple[str, str], asked: Asked) -> tuple[ScoresFile, ScoresFile]:
    """What both are found to be, once it is certain that they are two models, and images."""
    if is_table(Path(asked.data)):
        raise UsageError(
            f"'{asked.data}' is a table, which one model made. Give the images, which both can "
            "embed."
        )
    for name in models:
        if name.endswith(SCORES_SUFFIX):
            raise UsageError(
                f"'{name}' is a scores file, which needs no images: leave '{asked.data}' out."
            )
        locate(name)
    first, second = (measure(model, asked)[0] for model in models)
    return first, second


def _compared(pair: Pair) -> Comparison:
    flips: dict[str, Flips] = {}
    scores: list[Compared] = []
    several = bool(pair.first.protocol["several_labels"])
    for name in ANSWERED:
        if name not in pair.first.predictions or name not in pair.second.predictions:
            continue
        if several:
            scores.append(precision_difference(pair, name))
            continue
        label, _ = pair.column("label")
        first, second = (predicted == label for predicted in pair.column(name, "predicted"))
        flips[name] = _flips(first, second)
        scores.append(top1_difference(pair, name, first, second))
        scores.append(per_class_difference(pair, name, first, second))
    scores += low_shot_differences(pair)
    if not several:
        scores += clustering_differences(pair)
    return Comparison(
        first=pair.first,
        second=pair.second,
        margin=pair.margin,
        images=len(pair.orders[0]),
        groups=None if pair.groups is None else len(np.unique(pair.groups)),
        flips=flips,
        scores=scores,
    )


def _pair(
    files: tuple[ScoresFile, ScoresFile], names: tuple[str, str], margin: float, seed: int
) -> Pair:
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
                f"{each.get('images')} images of '{each.get('test')}'" for each in data
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
            f"{protocols[0].get(key)} and {protocols[1].get(key)}. Evaluate both models alike."
        )
    orders = [np.argsort(np.array(file.predictions["path"]), kind="stable") for file in files]
    groups = files[0].predictions.get("group")
    numbers = None if groups is None else group_numbers(groups)[orders[0]]
    return Pair(files[0], files[1], (orders[0], orders[1]), numbers, margin, seed)


def _flips(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Flips:
    return Flips(
        both=int((first & second).sum()),
        first_only=int((first & ~second).sum()),
        second_only=int((second & ~first).sum()),
        neither=int((~first & ~second).sum()),
    )
