"""Two networks on the same N images: how large their difference is, how sure that is, and what
follows from it.

Differences are second minus first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, comb, exp, isfinite, lgamma, log, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pauc_hub.evaluation.folds import Numbers
from pauc_hub.evaluation.intervals import DRAWS, Interval, Weights, resampled

NORMAL = NormalDist()
PAIRED_RESAMPLES = 2000
BLOCKS = 200
"""Parts that are left out in turn, at most, for the acceleration of a BCa interval."""
SIGN_FLIPS = 10_000
MOST_EXACT = 13
"""Groups up to which all sign flips are tried."""
T_95, T_90 = 2.7764451051977987, 2.13184678133629
"""97.5 % and 95 % quantiles of Student's t with DRAWS - 1 degrees of freedom."""
LEVEL = 0.05
"""Largest p value of a network that is called better."""
POWER = 0.8
"""With which a difference of the margin should be told."""

Statistic = Callable[[Weights], float]
"""From (N,) how often each image was drawn to a score or a difference."""


@dataclass(frozen=True)
class Difference:
    """How much better the second network is."""

    value: float
    interval: Interval
    """95 %."""
    inner: Interval
    """90 %, by which equivalence is judged."""
    method: str
    p_value: float | None = None
    """Two-sided, of no difference; None where none is computed."""


def mcnemar_mid_p(first_only: int, second_only: int) -> float:
    """Two-sided mid-p value that both networks are right equally often.

    Args:
        first_only, second_only: images that one of them alone got right.

    Returns:
        1 where no image tells them apart.

    Source: Fagerland, Lydersen & Laake 2013.
    """
    n = first_only + second_only
    if n == 0 or first_only == second_only:
        # both tails are then all of the distribution, less half the point in the middle, twice
        return 1.0
    least = min(first_only, second_only)
    below = sum(_half_to_the(n, k) for k in range(least))
    return min(1.0, 2 * below + _half_to_the(n, least))


def tango_interval(first_only: int, second_only: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of the difference of two shares on the same n images.

    Args:
        first_only, second_only: images that one of them alone got right.

    Source: Tango 1998, eq. 3; its equation is solved by bisection.
    """
    z = NORMAL.inv_cdf((1 + level) / 2)
    value = (second_only - first_only) / n

    def bound(outer: float, sign: int) -> float:
        inside = value
        for _ in range(60):
            middle = (inside + outer) / 2
            if sign * _tango_score(first_only, second_only, n, middle) < z:
                inside = middle
            else:
                outer = middle
        return inside

    return bound(-1.0, 1), bound(1.0, -1)


def _tango_score(first_only: int, second_only: int, n: int, difference: float) -> float:
    """How many standard errors the observed difference lies above a supposed one."""
    gap = second_only - first_only - n * difference
    linear = -second_only - first_only + (2 * n - second_only + first_only) * difference
    constant = -first_only * difference * (1 - difference)
    # the likeliest share of images that the first alone gets right, if the difference is as
    # supposed
    likeliest = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * likeliest + difference * (1 - difference))
    if variance <= 1e-12:
        return 0.0 if abs(gap) < 1e-9 else float("inf") * gap
    return gap / sqrt(variance)


def accuracy_difference(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Difference:
    """Of two accuracies on independent images: Tango's intervals and McNemar's mid-p value.

    Args:
        first, second: (N,) whether each is right.
    """
    first_only = int((first & ~second).sum())
    second_only = int((second & ~first).sum())
    n = len(first)
    return Difference(
        (second_only - first_only) / n,
        tango_interval(first_only, second_only, n),
        tango_interval(first_only, second_only, n, 0.90),
        "Tango's score interval, McNemar's mid-p",
        mcnemar_mid_p(first_only, second_only),
    )


def bootstrap_difference(
    statistic: Statistic,
    rows: int,
    groups: Numbers | None = None,
    *,
    resamples: int = PAIRED_RESAMPLES,
    seed: int = 0,
) -> Difference:
    """BCa intervals of any difference, over resampled images, or over whole groups of them.

    Args:
        statistic: the difference of two scores in [0, 1] by how often each image was drawn.

    Source: Efron 1987; the acceleration by a jackknife of at most BLOCKS parts.
    """
    value = statistic(np.ones(rows))
    drawn = np.array(
        [statistic(times) for times in resampled(rows, groups, resamples=resamples, seed=seed)]
    )
    drawn = np.sort(drawn[np.isfinite(drawn)])
    what = "images" if groups is None else "groups"
    method = f"BCa bootstrap over {what}, {resamples} resamples"
    if not len(drawn) or drawn[0] == drawn[-1]:
        units = rows if groups is None else len(np.unique(groups))
        return Difference(value, _unseen(value, units, 0.95), _unseen(value, units, 0.90), method)
    below = ((drawn < value).sum() + (drawn == value).sum() / 2) / len(drawn)
    bias = NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn))))
    acceleration = _acceleration(statistic, rows, groups, seed)
    interval, inner = (_bca(drawn, bias, acceleration, level) for level in (0.95, 0.90))
    return Difference(value, interval, inner, method)


def _unseen(value: float, units: int, level: float) -> Interval:
    """Where all resamples agree, few units may be why: as wide as Tango's interval without a
    flip.
    """
    squared = NORMAL.inv_cdf((1 + level) / 2) ** 2
    slack = squared / (units + squared)
    return value - slack, value + slack


def _bca(
    drawn: npt.NDArray[np.float64], bias: float, acceleration: float, level: float
) -> Interval:
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + NORMAL.inv_cdf(tail)
        corrected = NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))
        ends.append(float(np.quantile(drawn, corrected)))
    return ends[0], ends[1]


def _acceleration(statistic: Statistic, rows: int, groups: Numbers | None, seed: int) -> float:
    units = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    blocks = np.random.default_rng(seed).permutation(count) % min(BLOCKS, count)
    left = np.array(
        [statistic((blocks[units] != block).astype(float)) for block in range(min(BLOCKS, count))]
    )
    spread = np.nanmean(left) - left[np.isfinite(left)]
    scale = (spread**2).sum() ** 1.5
    return float((spread**3).sum() / (6 * scale)) if scale > 0 else 0.0


def sign_flip_p(
    swapped: Callable[[npt.NDArray[np.bool_]], float],
    groups: Numbers,
    *,
    flips: int = SIGN_FLIPS,
    seed: int = 0,
) -> float:
    """Two-sided p value that it does not matter which network is which, from exchanging them in
    whole groups.

    Args:
        swapped: the difference after the two have been exchanged where (N,) is true.
        groups: (N,). Up to MOST_EXACT of them all exchanges are tried, else `flips` at random.
    """
    names, members = np.unique(groups, return_inverse=True)
    count = len(names)
    observed = abs(swapped(np.zeros(len(groups), np.bool_))) - 1e-12
    if count <= MOST_EXACT:
        exchanges = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 > 0
        return float(np.mean([abs(swapped(flip[members])) >= observed for flip in exchanges]))
    rng = np.random.default_rng(seed)
    hits = sum(
        int(abs(swapped((rng.random(count) < 0.5)[members])) >= observed) for _ in range(flips)
    )
    return (1 + hits) / (1 + flips)


def draws_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Of two means over the same DRAWS draws, by Student's t of the paired differences."""
    if len(first) != DRAWS or len(second) != DRAWS:
        raise ValueError(f"{len(first)} and {len(second)} values, and not {DRAWS}")
    each = np.subtract(second, first)
    mean = float(each.mean())
    error = float(each.std(ddof=1)) / sqrt(DRAWS)
    return Difference(
        mean,
        (mean - T_95 * error, mean + T_95 * error),
        (mean - T_90 * error, mean + T_90 * error),
        f"Student's t over {DRAWS} paired draws",
    )


def verdict(difference: Difference, margin: float) -> str:
    """What follows: `better_beyond_margin`, `better_within_margin`, `equivalent` or
    `not_told_apart`.

    Better, either way, needs the 95 % interval on one side of 0 and, where there is one, a p value
    of 0.05 at most; beyond the margin needs the interval beyond that. Equivalent needs the 90 %
    interval inside ±margin.
    """
    low, high = difference.interval
    told = difference.p_value is None or difference.p_value <= LEVEL
    if told and (low > margin or high < -margin):
        return "better_beyond_margin"
    if told and (low > 0 or high < 0):
        return "better_within_margin"
    if -margin < difference.inner[0] and difference.inner[1] < margin:
        return "equivalent"
    return "not_told_apart"


def images_needed(difference: Difference, n: int, margin: float) -> int | None:
    """Images with which a true difference of the margin would be told from 0, at 5 % and with a
    power of POWER.

    The standard error is taken from the 95 % interval, and falls with the root of the number of
    images.

    Args:
        n: images, or groups, of the comparison.

    Returns:
        None where the interval has no width, so that nothing is known of the spread.
    """
    low, high = difference.interval
    z = NORMAL.inv_cdf(0.975)
    error = (high - low) / (2 * z)
    if not isfinite(error) or error <= 0:
        return None
    return ceil(n * ((z + NORMAL.inv_cdf(POWER)) * error / margin) ** 2)


def _half_to_the(n: int, k: int) -> float:
    """Probability of k successes in n even trials."""
    if n < 1000:
        return comb(n, k) / (1 << n)
    return exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2))
