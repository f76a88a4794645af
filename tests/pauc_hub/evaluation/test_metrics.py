"""Measures against hand values and closed forms."""

from math import exp, log

import pytest
import torch

from pauc_hub.evaluation.metrics import effective_rank, nmi, size_entropy, uniformity


def test_nmi_by_hand() -> None:
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    entropy_a, entropy_b = log(2), 0.75 * log(4 / 3) + 0.25 * log(4)
    joint = 0.5 * log(2) + 2 * 0.25 * log(4)
    assert nmi(a, b) == pytest.approx(
        2 * (entropy_a + entropy_b - joint) / (entropy_a + entropy_b), abs=1e-9
    )


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ([0, 0, 1, 1], [7, 7, 3, 3], 1.0),  # names do not matter
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),  # independent
        ([5, 5, 5], [1, 1, 1], 1.0),  # one class each: nothing to disagree about
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.0),
    ],
)
def test_nmi_in_its_corners(first: list[int], second: list[int], value: float) -> None:
    assert nmi(torch.tensor(first), torch.tensor(second)) == pytest.approx(value, abs=1e-12)
    assert nmi(torch.tensor(second), torch.tensor(first)) == pytest.approx(value, abs=1e-12)


def test_nmi_of_many_labels_is_as_of_few() -> None:
    """Each of 100,000 classes is halved by the other labelling: I = log 100,000, and H' = H +
    log 2.
    """
    first = torch.arange(400_000) // 4
    second = torch.arange(400_000) // 2
    order = torch.randperm(400_000, generator=torch.Generator().manual_seed(0))
    expected = 2 * log(100_000) / (log(100_000) + log(200_000))
    assert nmi(first[order], second[order]) == pytest.approx(expected, abs=1e-9)


def test_size_entropy_is_one_for_equal_sizes_and_falls_with_a_giant() -> None:
    assert size_entropy(torch.tensor([4, 4, 4])) == pytest.approx(1.0)
    expected = (0.9 * log(1 / 0.9) + 0.1 * log(10)) / log(2)
    assert size_entropy(torch.tensor([9, 1])) == pytest.approx(expected)
    assert size_entropy(torch.tensor([12])) == 1.0


def test_effective_rank_counts_the_dimensions_in_use() -> None:
    basis = torch.cat([torch.eye(5, 9), -torch.eye(5, 9)])  # centred, five equal singular values
    assert effective_rank(basis) == pytest.approx(5.0, rel=1e-6)


def test_effective_rank_by_hand() -> None:
    # singular values 3√2 and √2
    features = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(features) == pytest.approx(
        exp(0.75 * log(4 / 3) + 0.25 * log(4)), rel=1e-6
    )


def test_effective_rank_of_a_line_is_one_and_of_a_point_is_zero() -> None:
    line = torch.arange(6.0).unsqueeze(1) * torch.tensor([[1.0, 2.0, -1.0]])
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(torch.ones(6, 3)) == 0.0


def test_uniformity_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert uniformity(features) == pytest.approx(log((2 * exp(-4) + exp(-8)) / 3), abs=1e-5)
