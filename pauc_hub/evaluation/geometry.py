"""How features lie in their space: correlation of dimensions, variance within classes, clusters. N
rows, D width.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pauc_hub.errors import UsageError
from pauc_hub.evaluation.folds import Numbers
from pauc_hub.evaluation.intervals import Interval

PARTS = 10
T_OF_PARTS = 2.2621571627409915
"""97.5 % quantile of Student's t with PARTS - 1 degrees of freedom."""


def correlation(features: Tensor) -> float:
    """Root mean square of the correlations between different dimensions: 0 for independent ones, 1
    for copies.

    Args:
        features: (N, D), N >= 2. Dimensions that do not vary are left out.

    Returns:
        In [0, 1]; NaN where fewer than two dimensions vary.
    """
    centred = features.double() - features.double().mean(dim=0)
    spread = centred.square().sum(dim=0).sqrt()
    varying = spread > 1e-9 * max(1.0, float(spread.max()))
    width = int(varying.sum())
    if width < 2:
        return float("nan")
    unit = centred[:, varying] / spread[varying]
    matrix = unit.T @ unit
    off = matrix.square().sum() - matrix.diagonal().square().sum()
    return float((off.clamp_min(0) / (width * (width - 1))).sqrt())


def intra_share(features: Tensor, assignment: Tensor) -> float:
    """Share of the variance that lies within clusters, in [0, 1]: it falls as features coagulate.

    Args:
        features: (N, D).
        assignment: (N,) int64 clusters, any numbers. Within is the mean over clusters of two
            members or more.

    Returns:
        NaN where nothing varies.

    Source: method.md §6.
    """
    _, own = torch.unique(assignment, return_inverse=True)
    points = features.double()
    sizes = torch.bincount(own).double()
    means = (
        points.new_zeros(len(sizes), points.shape[1]).index_add_(0, own, points) / sizes[:, None]
    )
    squared = (points - means[own]).square().sum(dim=1)
    within = points.new_zeros(len(sizes)).index_add_(0, own, squared) / sizes
    intra = float(within[sizes >= 2].mean()) if bool((sizes >= 2).any()) else 0.0
    gaps = (means - points.mean(dim=0)).square().sum(dim=1)
    inter = float((gaps * sizes).sum() / sizes.sum())
    return intra / (intra + inter) if intra + inter > 0 else float("nan")


def matched_accuracy(clusters: Numbers, labels: Numbers) -> float:
    """Share of rows in the cluster that is matched to their class, one to one, as well as can be.

    Raises:
        UsageError: scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise UsageError(
            "matching clusters to classes needs scipy: `pip install 'pauc-hub[eval]'`."
        ) from error
    _, own = np.unique(labels, return_inverse=True)
    _, found = np.unique(clusters, return_inverse=True)
    counts = np.zeros((own.max() + 1, found.max() + 1))
    np.add.at(counts, (own, found), 1)
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / len(labels))


def adjusted_mutual_information(clusters: Numbers, labels: Numbers) -> float:
    """1 for the same partition, about 0 for unrelated ones, by scikit-learn.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import adjusted_mutual_info_score
    except ImportError as error:
        raise UsageError(
            "this measure needs scikit-learn: `pip install 'pauc-hub[eval]'`."
        ) from error
    return float(adjusted_mutual_info_score(labels, clusters))


def jackknife(
    statistic: Callable[[npt.NDArray[np.bool_]], float],
    rows: int,
    groups: Numbers | None = None,
    seed: int = 0,
) -> Interval:
    """95 % interval of a smooth statistic, from leaving out each of PARTS parts in turn; of
    Student's t.

    Args:
        statistic: from (N,) which rows are kept.
        groups: (N,) what is left out together.
    """
    units = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    if count < PARTS:
        return float("nan"), float("nan")
    parts = np.random.default_rng(seed).permutation(count) % PARTS
    left = np.array([statistic(parts[units] != part) for part in range(PARTS)])
    value = statistic(np.ones(rows, np.bool_))
    half = T_OF_PARTS * sqrt((PARTS - 1) / PARTS * float(((left - left.mean()) ** 2).sum()))
    return value - half, value + half
