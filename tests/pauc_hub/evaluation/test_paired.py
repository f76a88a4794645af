"""Paired comparisons against scipy and brute force."""

from itertools import product
from math import log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, bootstrap, norm, ttest_rel

from pauc_hub.evaluation.paired import (
    SIGN_FLIPS,
    Difference,
    accuracy_difference,
    bootstrap_difference,
    draws_difference,
    images_needed,
    mcnemar_mid_p,
    sign_flip_p,
    tango_interval,
    verdict,
)


@pytest.mark.parametrize(("b", "c"), [(1, 7), (7, 1), (0, 5), (3, 4), (12, 2), (600, 700)])
def test_mid_p_is_the_exact_one_less_half_the_observed_point(b: int, c: int) -> None:
    exact = min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5))
    assert mcnemar_mid_p(b, c) == pytest.approx(exact - binom.pmf(b, b + c, 0.5), rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_mid_p_of_a_tie_is_one(count: int) -> None:
    assert mcnemar_mid_p(count, count) == 1.0


def score_by_brute_force(b: int, c: int, n: int, difference: float) -> float:
    """With the likeliest nuisance share found numerically; b the first alone, c the second
    alone.
    """

    def unlikelihood(share: float) -> float:
        rest = 1 - 2 * share - difference
        parts = ((b, share), (c, share + difference), (n - b - c, rest))
        return -sum(count * log(max(p, 1e-300)) for count, p in parts if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = minimize_scalar(
        unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    return float((c - b - n * difference) / sqrt(n * (2 * share + difference - difference**2)))


@pytest.mark.parametrize(
    ("b", "c", "n", "level"),
    [
        (12, 2, 50, 0.95),
        (2, 12, 50, 0.90),
        (3, 4, 40, 0.95),
        (7, 1, 21, 0.95),
        (0, 5, 20, 0.95),
        (9, 6, 15, 0.99),
    ],
)
def test_tango_inverts_the_score(b: int, c: int, n: int, level: float) -> None:
    z = norm.ppf((1 + level) / 2)
    ends = [
        brentq(
            lambda difference, wanted=wanted: score_by_brute_force(b, c, n, difference) - wanted,
            -0.9999,
            0.9999,
        )
        for wanted in (z, -z)
    ]
    assert tango_interval(b, c, n, level) == pytest.approx(ends, abs=1e-5)


def test_tango_mirrors_and_has_width_without_a_flip() -> None:
    assert tango_interval(2, 9, 30) == pytest.approx(
        [-end for end in reversed(tango_interval(9, 2, 30))]
    )
    low, high = tango_interval(0, 0, 100)
    z2 = norm.ppf(0.975) ** 2
    assert (low, high) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-6)
    assert tango_interval(0, 10, 10)[1] == pytest.approx(1)


def test_accuracy_difference_is_second_less_first() -> None:
    first = np.array([1, 1, 0, 0, 1, 0], np.bool_)
    second = np.array([1, 1, 1, 1, 0, 1], np.bool_)
    found = accuracy_difference(first, second)
    assert found.value == pytest.approx((3 - 1) / 6)
    assert found.interval == tango_interval(1, 3, 6)
    assert found.p_value == mcnemar_mid_p(1, 3)


def test_bca_is_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    ours = bootstrap_difference(
        lambda times: float(times @ values / times.sum()), 60, resamples=9000
    )
    theirs = bootstrap((values,), np.mean, n_resamples=9000, rng=1).confidence_interval
    plain = bootstrap(
        (values,), np.mean, n_resamples=9000, rng=1, method="percentile"
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=0.015)
    # which the uncorrected interval is not
    assert abs(plain.high - theirs.high) > 0.02


def test_bca_of_a_paired_difference_is_scipys() -> None:
    """Of a score that is no mean of images: the mean over classes of very different sizes."""
    rng = np.random.default_rng(3)
    classes = np.repeat([0, 1, 2], [100, 30, 12])
    first = rng.random(142) < 0.6
    second = rng.random(142) < np.array([0.6, 0.7, 0.95])[classes]

    def score(right: npt.NDArray[Any], own: npt.NDArray[Any]) -> float:
        return float(np.mean([right[own == c].mean() for c in range(3)]))

    def ours(times: npt.NDArray[np.float64]) -> float:
        shares = np.bincount(classes, times * second) - np.bincount(classes, times * first)
        return float((shares / np.bincount(classes, times)).mean())

    def theirs(*drawn: npt.NDArray[Any]) -> float:
        return score(drawn[1], drawn[2]) - score(drawn[0], drawn[2])

    # the same seed draws the same resamples in both
    found = bootstrap_difference(ours, 142, resamples=3000, seed=1)
    for level, interval in ((0.95, found.interval), (0.90, found.inner)):
        wanted = bootstrap(
            (first, second, classes),
            theirs,
            paired=True,
            vectorized=False,
            n_resamples=3000,
            confidence_level=level,
            rng=1,
        ).confidence_interval
        assert interval == pytest.approx((wanted.low, wanted.high), abs=0.003)


def test_groups_are_resampled_as_wholes() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 30)
    values = rng.normal(size=20)[groups]
    alone = bootstrap_difference(
        lambda times: float(times @ values / times.sum()), 600, resamples=300
    )
    whole = bootstrap_difference(
        lambda times: float(times @ values / times.sum()), 600, groups, resamples=300
    )
    assert np.diff(whole.interval)[0] > 4 * np.diff(alone.interval)[0]


@pytest.mark.parametrize("units", [1, 8])
def test_resamples_that_agree_leave_the_width_of_tangos_interval(units: int) -> None:
    groups = np.arange(24) % units
    found = bootstrap_difference(lambda _times: 0.0, 24, groups, resamples=20)
    assert found.interval == pytest.approx(tango_interval(0, 0, units), abs=1e-6)
    assert found.inner == pytest.approx(tango_interval(0, 0, units, 0.90), abs=1e-6)


def test_sign_flips_try_all_exchanges_of_few_groups() -> None:
    gains = np.array([3.0, 2.0, 1.0, -0.5])
    groups = np.array([0, 0, 1, 2, 3])
    each = np.array([1.0, 2.0, 2.0, 1.0, -0.5])

    def swapped(flip: npt.NDArray[np.bool_]) -> float:
        return float(np.where(flip, -each, each).sum())

    exact = np.mean(
        [abs(np.dot(signs, gains)) >= gains.sum() for signs in product((1, -1), repeat=4)]
    )
    assert sign_flip_p(swapped, groups) == exact == 4 / 16


def test_sign_flips_of_many_groups_are_drawn() -> None:
    each = np.ones(30)
    found = sign_flip_p(lambda flip: float(np.where(flip, -each, each).sum()), np.arange(30))
    assert found == 1 / (1 + SIGN_FLIPS)


def test_draws_are_paired() -> None:
    first, second = [0.5, 0.6, 0.4, 0.7, 0.5], [0.52, 0.63, 0.41, 0.74, 0.53]
    found = draws_difference(first, second)
    for level, interval in ((0.95, found.interval), (0.90, found.inner)):
        wanted = ttest_rel(second, first).confidence_interval(level)
        assert interval == pytest.approx((wanted.low, wanted.high))


def difference(low: float, high: float, inner: tuple[float, float] | None = None) -> Difference:
    return Difference((low + high) / 2, (low, high), inner or (low, high), "")


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (difference(0.011, 0.03), "better_beyond_margin"),
        (difference(-0.03, -0.011), "better_beyond_margin"),
        (difference(0.001, 0.009), "better_within_margin"),
        (difference(-0.03, -0.001), "better_within_margin"),
        (difference(-0.012, 0.004, (-0.009, 0.003)), "equivalent"),
        (difference(-0.012, 0.004, (-0.011, 0.003)), "not_told_apart"),
        (difference(-0.05, 0.05), "not_told_apart"),
    ],
)
def test_verdicts(found: Difference, wanted: str) -> None:
    assert verdict(found, 0.01) == wanted


def test_a_p_value_above_five_percent_calls_nobody_better() -> None:
    assert (
        verdict(Difference(0.05, (0.02, 0.08), (0.03, 0.07), "", 0.0625), 0.01) == "not_told_apart"
    )
    assert (
        verdict(Difference(0.05, (0.02, 0.08), (0.03, 0.07), "", 0.03), 0.01)
        == "better_beyond_margin"
    )


def test_images_needed_fall_with_the_square_of_the_margin() -> None:
    # standard error 0.01 with 100 images: 0.1 an image
    found = difference(-1.959963984540054 * 0.01, 1.959963984540054 * 0.01)
    wanted = ((norm.ppf(0.975) + norm.ppf(0.8)) * 0.1 / 0.01) ** 2
    assert images_needed(found, 100, 0.01) == int(np.ceil(wanted))
    assert images_needed(found, 100, 0.02) == int(np.ceil(wanted / 4))
    assert images_needed(difference(0.1, 0.1), 100, 0.01) is None
