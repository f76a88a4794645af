"""Which numbers are black and white: what is given, declared, measured, or usual."""

from typing import Any

import numpy as np
import pytest

from pauc_hub.errors import UsageError
from pauc_hub.images.reading import (
    Reading,
    UnknownRange,
    as_reading,
    extremes,
    measured,
    parse_bands,
    parse_range,
)

NUMBERS = np.arange(1000.0).reshape(10, 50, 2)


@pytest.mark.parametrize(
    ("reading", "declared", "expected"),
    [
        (Reading((5.0, 6.0)), (0.0, 4095.0), (5, 6)),  # given
        (Reading({"uint16": (5.0, 6.0)}), (0.0, 4095.0), (0, 4095)),  # declared
        (Reading({"uint16": (5.0, 6.0)}), None, (5, 6)),  # measured
        (Reading({"float32": (5.0, 6.0)}), None, (0, 65535)),  # usual
        (Reading("image"), (0.0, 4095.0), (0, 999)),
    ],
)
def test_what_is_nearer_to_the_user_wins(
    reading: Reading, declared: tuple[float, float] | None, expected: tuple[float, float]
) -> None:
    assert reading.range_of("uint16", declared, NUMBERS) == expected


@pytest.mark.parametrize(
    ("storage", "numbers"),
    [
        ("float32", NUMBERS),
        ("float32 x 3", NUMBERS - 1),
        ("int32", NUMBERS - 900),
        ("uint32", NUMBERS * 1000),
    ],
)
def test_numbers_of_an_unknown_range_are_refused_and_not_guessed(
    storage: str, numbers: np.ndarray[Any, Any]
) -> None:
    with pytest.raises(
        UnknownRange, match=rf"^{storage} numbers from .* give the value range, such as "
    ):
        Reading().range_of(storage, None, numbers)


@pytest.mark.parametrize(
    ("storage", "usual"), [("float32", (0, 1)), ("int32", (0, 65535)), ("uint32", (0, 65535))]
)
def test_one_number_in_a_thousand_may_overshoot(storage: str, usual: tuple[float, float]) -> None:
    numbers = np.zeros((10, 100, 1))
    numbers[0, 0] = np.nan
    numbers[0, 1] = 1e6
    assert Reading().range_of(storage, None, np.concatenate([numbers, numbers * 0])) == usual
    numbers[1, :2] = 1e6
    with pytest.raises(UnknownRange):
        Reading().range_of(storage, None, numbers)


def test_the_range_of_a_source_leaves_out_a_thousandth_at_each_end() -> None:
    values = np.arange(100_001.0)
    low, high = measured("uint16", [values[:50_000], values[50_000:]])
    assert (low, high) == pytest.approx((100, 99_900))


@pytest.mark.parametrize(
    ("storage", "values", "expected"),
    [
        ("float32", [0.2] * 999 + [1.7], (0, 1)),
        ("uint16", [7] * 10, (0, 65535)),
        ("int32", [-7] * 10, (-7, -6)),
        ("uint16", [0] * 9999 + [300], (0, 300)),  # most of it one number: the quantiles coincide
        ("uint16 of 12 bits", [0, 4095] * 10, (0, 4095)),  # the bits lie on the right
        # or on the left, as the PNG specification has it
        ("uint16 of 12 bits", [0, 65520] * 10, (0, 65535)),
        ("uint16", [0, 1] * 50, (0, 1)),
    ],
)
def test_the_range_of_peculiar_sources(
    storage: str, values: list[float], expected: tuple[float, float]
) -> None:
    assert measured(storage, [np.array(values, float)]) == expected


def test_extremes_are_of_finite_numbers() -> None:
    assert extremes(np.array([[1.0, np.nan], [np.inf, -3.0]])) == (-3, 1)
    assert extremes(np.array([[np.nan, np.inf]])) == (0, 1)
    assert extremes(np.array([[5.0]])) == (5, 6)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        Reading((0.0, 4095.0), (3, 2, 1)),
        Reading("image", (4,)),
        Reading({"uint16": (0.0, 5.0), "float32 x 3": (0.0, 1.0)}),
    ],
)
def test_what_a_table_records_reads_as_it_was(reading: Reading) -> None:
    assert Reading.from_config({"mean": [0.5]} | reading.to_config()) == reading


def test_where_nothing_is_peculiar_nothing_is_recorded() -> None:
    assert Reading().to_config() == {}


def test_ranges_and_bands_as_callers_give_them() -> None:
    assert as_reading([0, 4095], [3, 2, 1]) == Reading((0.0, 4095.0), (3, 2, 1))  # type: ignore[arg-type]
    assert as_reading("image", ()) == Reading("image")
    wrong: list[tuple[Any, Any]] = [
        ((5, 5), ()),
        ((1, 2, 3), ()),
        ("all", ()),
        (None, (1, 2)),
        (None, (0, 1, 2)),
    ]
    for value_range, bands in wrong:
        with pytest.raises(UsageError, match=r"^(value_range|bands)="):
            as_reading(value_range, bands)


def test_ranges_and_bands_as_they_are_typed() -> None:
    assert parse_range("270,310.5") == (270, 310.5)
    assert parse_range("image") == "image"
    assert parse_bands("3,2,1") == (3, 2, 1)
    assert parse_bands("4") == (4,)
    for text in ("4", "5,5", "5,1", "1,2,3", "a,b", "0,inf", "nan,1", ""):
        with pytest.raises(ValueError):  # noqa: PT011 (the caller words it)
            parse_range(text)
    for text in ("1,2", "0,1,2", "a", "1,2,3,4", ""):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_bands(text)
