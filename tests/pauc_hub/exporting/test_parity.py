"""The comparison itself, by hand: n = 4 images of one colour each, D = 2."""

from dataclasses import replace
from math import cos, pi, sin
from typing import Any

import numpy as np
import pytest

from pauc_hub.errors import PaucError
from pauc_hub.exporting.parity import LIMITS, Outputs, Parity, compare_outputs, shortfalls

SQUARES = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
ANGLES = np.array([0.0, 0.1, 0.3, 1.0])
GOOD = Parity(4, 1.0, 0.0, 1.0, {1: 1.0, 2: 1.0, 7: 1.0}, {"class": 1.0}, {"probability": 0.0})


def embedding(angles: Any, length: float = 2.0) -> Any:
    return (length * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def answering(outputs: Outputs) -> Any:
    """A file that gives the i-th row for the image of colour i."""
    return lambda squares: {name: values[squares[:, 0, 0, 0]] for name, values in outputs.items()}


def test_what_is_equal_is_equal() -> None:
    outputs = {
        "embedding": embedding(ANGLES),
        "class": np.array([0, 1, 1, 2]),
        "probability": np.full(4, 0.5),
    }
    assert compare_outputs(answering(outputs), outputs, SQUARES) == GOOD
    assert shortfalls(GOOD, LIMITS["fp32"]) == []


def test_the_least_cosine_is_that_of_the_worst_image() -> None:
    reference = {"embedding": embedding(ANGLES)}
    turned = {"embedding": embedding(ANGLES + np.array([0, 0, 0, 0.2]))}
    found = compare_outputs(answering(turned), reference, SQUARES)
    assert found.least_cosine == pytest.approx(cos(0.2), abs=1e-6)
    assert found.batches == {batch: pytest.approx(cos(0.2), abs=1e-6) for batch in (1, 2, 7)}
    # two ends of an arc of 0.2 on a circle
    assert found.largest_difference == pytest.approx(2 * sin(0.1), abs=1e-6)
    assert "least cosine 0.980067 at batch 7, limit 0.99999" in shortfalls(found, LIMITS["fp32"])


def test_a_fault_of_one_batch_size_is_found() -> None:
    reference = {"embedding": embedding(ANGLES)}

    def run(squares: Any) -> Outputs:
        angles = ANGLES + (pi / 3 if len(squares) == 2 else 0)
        return {"embedding": embedding(angles)[squares[:, 0, 0, 0]]}

    found = compare_outputs(run, reference, SQUARES)
    assert found.batches == {1: 1.0, 2: pytest.approx(0.5, abs=1e-6), 7: 1.0}
    assert shortfalls(found, LIMITS["int8"]) == ["least cosine 0.500000 at batch 2, limit 0.98"]


def test_neighbours_that_change_are_counted_and_ties_are_not() -> None:
    rng = np.random.default_rng(0)
    squares = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    angles = rng.uniform(0, 2 * pi, 40)
    reference = {"embedding": embedding(angles)}
    shuffled = answering({"embedding": embedding(rng.permutation(angles))})
    agreement = compare_outputs(shuffled, reference, squares).knn_agreement
    assert agreement is not None
    assert agreement < 0.4
    # ten images in four copies: which copy comes first is a matter of rounding
    copies = np.tile(angles[:10], 4)
    near = copies + rng.normal(0, 1e-6, 40)
    found = compare_outputs(
        answering({"embedding": embedding(near)}), {"embedding": embedding(copies)}, squares
    )
    assert found.knn_agreement == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    wrong = embedding(ANGLES)
    wrong[2, 0] = value
    with np.errstate(all="ignore"):
        found = compare_outputs(
            answering({"embedding": wrong}), {"embedding": embedding(ANGLES)}, SQUARES
        )
    assert shortfalls(found, LIMITS["int8"]) != []


def test_zeros_in_both_are_equal() -> None:
    outputs = {"embedding": np.zeros((4, 2), np.float32)}
    assert compare_outputs(answering(outputs), outputs, SQUARES).least_cosine == 1


def test_another_shape_is_refused() -> None:
    outputs = {"embedding": embedding(ANGLES)}
    with pytest.raises(
        PaucError, match=r"gives embedding of shape \(14, 1\) at batch 1, and the model \(14, 2\)"
    ):
        compare_outputs(answering({"embedding": outputs["embedding"][:, :1]}), outputs, SQUARES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"least_cosine": 0.5}, "least cosine 0.500000, limit 0.99999"),
        ({"largest_difference": 0.002}, "embeddings differ by 0.20% of their length, limit 0.1%"),
        ({"knn_agreement": 0.98}, "98.0% of the nearest images agree, limit 99%"),
        ({"choices": {"class": 0.9}}, "class agrees for 90.0% of the images, limit 99%"),
        ({"values": {"probability": 0.01}}, "probability differs by 0.0100, limit 0.001"),
    ],
)
def test_each_limit_holds(change: dict[str, Any], says: str) -> None:
    assert shortfalls(replace(GOOD, **change), LIMITS["fp32"]) == [says]
