"""Linear SVMs on a few labelled images a class, by scikit-learn. N rows, D width, C classes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import UsageError
from pauc_hub.evaluation.folds import Numbers
from pauc_hub.evaluation.intervals import DRAWS, Interval, over_draws

SHOTS = (1, 2, 4, 8, 16)
COST = 0.5
EPS = 1e-5
"""Added to a row's norm before it is divided by it, as PCL's script does."""

_Features = npt.NDArray[np.float32]
Signs = npt.NDArray[np.int64]
"""(N, C): 1 for an image of the class, -1 for one that is not, 0 for one that is difficult to
tell.
"""


@dataclass(frozen=True)
class LowShot:
    """Scores with k images a class."""

    k: int
    draws: list[float]
    mean: float
    interval: Interval
    """Of the mean over draws of training images; the test images stay the same."""


def low_shot_accuracy(
    features: _Features,
    targets: Numbers,
    test: tuple[_Features, Numbers] | None,
    groups: Numbers | None,
    seed: int = 0,
) -> list[LowShot]:
    """Accuracy of one-against-all SVMs trained on k rows a class.

    Args:
        test: (M, D) and (M,); None to ask about the rows, or groups, that were not drawn.
        groups: (N,) of the rows.

    Returns:
        One entry for each k of SHOTS that every class has images for, and one more for testing
        without `test`.
    """
    smallest = int(np.bincount(targets).min()) - (test is None)
    rng = np.random.default_rng(seed)
    unit = nearly_unit_rows(features)
    found = []
    for k in (k for k in SHOTS if k <= smallest):
        scores = []
        for _ in range(DRAWS):
            drawn = np.concatenate(
                [rng.permutation(np.flatnonzero(targets == c))[:k] for c in np.unique(targets)]
            )
            model = linear_svc().fit(unit[drawn], targets[drawn])
            asked, truth = (
                _others(unit, targets, drawn, groups)
                if test is None
                else (nearly_unit_rows(test[0]), test[1])
            )
            scores.append(float((model.predict(asked) == truth).mean()))
        found.append(summary(k, scores))
    return found


def summary(k: int, draws: list[float]) -> LowShot:
    return LowShot(k, draws, float(np.mean(draws)), over_draws(draws))


def nearly_unit_rows(features: npt.NDArray[Any]) -> _Features:
    """Rows of about unit length."""
    exact = np.asarray(features, np.float32)
    unit: _Features = exact / (np.linalg.norm(exact, axis=1, keepdims=True) + np.float32(EPS))
    return unit


def linear_svc(weights: dict[int, float] | None = None) -> Any:
    """scikit-learn's LinearSVC as PCL's script sets it.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UsageError(
            "this protocol needs scikit-learn: `pip install 'pauc-hub[eval]'`."
        ) from error
    return LinearSVC(
        C=COST,
        class_weight=weights,
        intercept_scaling=1.0,
        penalty="l2",
        loss="squared_hinge",
        tol=1e-4,
        dual=True,
        max_iter=2000,
        random_state=0,
    )


def _others(
    unit: _Features, targets: Numbers, drawn: Numbers, groups: Numbers | None
) -> tuple[_Features, Numbers]:
    """The rows that were not drawn, nor share a group with one that was."""
    names = np.arange(len(targets)) if groups is None else groups
    left = ~np.isin(names, names[drawn])
    return unit[left], targets[left]


@dataclass(frozen=True)
class Voc07:
    """Mean average precision by one convention for difficult objects."""

    full: float
    """All training images."""
    classes: list[float]
    """(C,) average precisions behind `full`."""
    shots: list[LowShot]


def pcl_voc07(train: _Features, train_signs: Signs, test: _Features, test_signs: Signs) -> Voc07:
    """PCL's protocol: difficult objects are negatives, in training and test.

    One SVM a class with weights 2 : 1, C = 0.5, on rows of about unit length. For k shots the
    positives of each class are shuffled and k taken, class after class, so that an image may be
    drawn several times; the generator is seeded once, and draws go on from k to k.

    Args:
        train: (N, D). train_signs: (N, C). test: (M, D). test_signs: (M, C).

    Source: eval_svm_voc.py and voc.py of salesforce/PCL (MIT).
    """
    return _voc07(train, np.where(train_signs > 0, 1, -1), test, np.where(test_signs > 0, 1, -1))


def vissl_voc07(train: _Features, train_signs: Signs, test: _Features, test_signs: Signs) -> Voc07:
    """The same SVMs and draws by VISSL's convention: a class is neither trained nor tested on its
    difficult images.
    """
    return _voc07(train, train_signs, test, test_signs)


def _voc07(train: _Features, train_signs: Signs, test: _Features, test_signs: Signs) -> Voc07:
    unit = nearly_unit_rows(train)
    asked = nearly_unit_rows(test)
    every = np.arange(len(unit))
    classes = _average_precisions(unit, train_signs, every, asked, test_signs)
    shuffle = random.Random(0).shuffle
    shots = []
    for k in SHOTS:
        scores = []
        for _ in range(DRAWS):
            drawn = draw_with_repeats(train_signs, k, shuffle)
            scores.append(
                float(np.mean(_average_precisions(unit, train_signs, drawn, asked, test_signs)))
            )
        shots.append(summary(k, scores))
    return Voc07(float(np.mean(classes)), classes, shots)


def draw_with_repeats(signs: Signs, k: int, shuffle: Callable[[list[int]], None]) -> Numbers:
    """k positives of each class, one class after the other; an image of several classes may come
    several times.
    """
    drawn: list[int] = []
    for c in range(signs.shape[1]):
        rows = np.flatnonzero(signs[:, c] > 0).tolist()
        shuffle(rows)
        drawn += rows[:k]
    return np.array(drawn)


def _average_precisions(
    unit: _Features, signs: Signs, rows: Numbers, asked: _Features, asked_signs: Signs
) -> list[float]:
    found = []
    for c in range(signs.shape[1]):
        known = rows[signs[rows, c] != 0]
        tested = asked_signs[:, c] != 0
        positive = asked_signs[tested, c] > 0
        if len(np.unique(signs[known, c])) < 2:
            # A few draws may hold no negative of a class, and nothing can be learned: the precision
            # of chance.
            found.append(float(positive.mean()))
            continue
        model = linear_svc({1: 2, -1: 1}).fit(unit[known], signs[known, c])
        found.append(interpolated_precision(model.decision_function(asked[tested]), positive))
    return found


def interpolated_precision(
    scores: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_]
) -> float:
    """Area under the interpolated curve of precision over recall, at every point: that of VOC from
    2010 on.

    Args:
        scores: (N,), larger is more likely.
        positive: (N,), one true at least.
    """
    order = np.argsort(scores)[::-1]
    found = np.cumsum(positive[order])
    precision = found / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[positive[order]].sum() / found[-1])
