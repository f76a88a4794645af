"""Which rows are held out together: stratified by class, and never two rows of one group apart. N
rows, C classes.
"""

import numpy as np
import numpy.typing as npt

Targets = npt.NDArray[np.int64]
"""(N,) class numbers in [0, C); or (N, C) of 0 and 1 where an image may have several labels."""
Numbers = npt.NDArray[np.int64]


def fold_numbers(
    targets: Targets, count: int, groups: Numbers | None = None, seed: int = 0
) -> Numbers:
    """Divide rows into `count` folds with each class spread as evenly over them as its rows, or
    groups, allow.

    Args:
        targets: of several labels, the rarest of an image counts.
        groups: (N,) numbers of what must stay together, such as the frames of one video.

    Returns:
        (N,) fold of each row, in [0, count).
    """
    rng = np.random.default_rng(seed)
    strata = strata_of(targets)
    if groups is not None:
        return _grouped(strata, count, groups, rng)
    folds = np.empty(len(strata), np.int64)
    dealt = 0
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        # Dealing on where the last class ended keeps the folds of equal size.
        folds[rows] = (dealt + np.arange(len(rows))) % count
        dealt += len(rows)
    return folds


def strata_of(targets: Targets) -> Numbers:
    """(N,) the class of each row; of several the rarest, and C for a row with none."""
    if targets.ndim == 1:
        return targets
    classes = targets.shape[1]
    ranked = np.argsort(targets.sum(axis=0), kind="stable")
    first = targets[:, ranked].argmax(axis=1)
    strata: Numbers = np.where(targets.any(axis=1), ranked[first], classes)
    return strata


def units_of_each_class(targets: Targets, classes: int, groups: Numbers | None = None) -> Numbers:
    """(C,) how many rows each class has, or in how many groups it occurs."""
    rows, labels = (np.arange(len(targets)), targets) if targets.ndim == 1 else np.nonzero(targets)
    if groups is None:
        return np.bincount(labels, minlength=classes)
    pairs = np.unique(np.stack([labels, groups[rows]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=classes)


def _grouped(strata: Numbers, count: int, groups: Numbers, rng: np.random.Generator) -> Numbers:
    """Largest groups first, each to the fold that has least of its classes so far."""
    names, members = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(held, (members, strata), 1)
    share = held / held.sum(axis=0).clip(min=1)
    shuffled = rng.permutation(len(names))
    largest_first = shuffled[np.argsort(-share[shuffled].sum(axis=1), kind="stable")]
    filled = np.zeros((count, held.shape[1]))
    fold_of_group = np.empty(len(names), np.int64)
    for group in largest_first:
        fold = int((filled @ share[group] + 1e-9 * filled.sum(axis=1)).argmin())
        fold_of_group[group] = fold
        filled[fold] += share[group]
    return fold_of_group[members]
