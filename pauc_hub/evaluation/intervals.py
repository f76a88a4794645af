"""95 % intervals: of a share, of a score over images or groups, and of a mean over draws."""

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
DRAWS = 5
STUDENT_T = 2.7764451051977987
"""97.5 % quantile of Student's t with DRAWS - 1 degrees of freedom."""
RESAMPLES = 1000

Interval = tuple[float, float]
Weights = npt.NDArray[np.float64]


def wilson(successes: int, trials: int) -> Interval:
    """Of a share; (0, 1) where nothing was tried.

    Source: Wilson 1927. Right also for few trials and shares near 0 or 1, where a bootstrap is not.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + Z**2 / (2 * trials)
    half = Z * sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2))
    scale = 1 + Z**2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def over_draws(values: Sequence[float]) -> Interval:
    """Of the mean over DRAWS independent draws, by Student's t."""
    if len(values) != DRAWS:
        raise ValueError(f"{len(values)} values, and not {DRAWS}")
    half = STUDENT_T * float(np.std(values, ddof=1)) / sqrt(DRAWS)
    mean = float(np.mean(values))
    return mean - half, mean + half


def bootstrap(
    statistic: Callable[[Weights], npt.NDArray[np.float64]],
    rows: int,
    groups: npt.NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Percentile intervals of S scores over resampled rows, or over whole groups of rows.

    Args:
        statistic: from (N,) how often each row was drawn to (S,) scores; NaN where a resample has
            none.
        rows: N.
        groups: (N,) numbers of what is drawn together.

    Returns:
        (S, 2) low and high; NaN for a score that no resample has.
    """
    drawn = np.stack(
        [statistic(times) for times in resampled(rows, groups, resamples=resamples, seed=seed)]
    )
    known = ~np.isnan(drawn).all(axis=0)
    bounds = np.full((drawn.shape[1], 2), np.nan)
    if known.any():
        bounds[known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0).T
    return bounds


def resampled(
    rows: int,
    groups: npt.NDArray[np.int64] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Iterator[Weights]:
    """(N,) how often each row was drawn, for each resample; arguments as for bootstrap()."""
    rng = np.random.default_rng(seed)
    units, members = (rows, None) if groups is None else _units(groups)
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, units, units), minlength=units).astype(np.float64)
        yield times if members is None else times[members]


def _units(groups: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    names, members = np.unique(groups, return_inverse=True)
    return len(names), members
