"""Measures of partitions, against scikit-learn and by hand."""

from math import isnan

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from pauc_hub.evaluation import partitions
from pauc_hub.evaluation.metrics import nmi
from pauc_hub.evaluation.partitions import (
    adjusted_rand,
    adjusted_rand_of_counts,
    nmi_of_counts,
    silhouette,
)


def labels(count: int, k: int, seed: int) -> Tensor:
    return torch.randint(k, (count,), generator=torch.Generator().manual_seed(seed)) * 7 - 3


@pytest.mark.parametrize(("k", "other"), [(3, 3), (5, 20), (1, 4), (100, 100)])
def test_adjusted_rand_is_that_of_scikit_learn(k: int, other: int) -> None:
    first, second = labels(150, k, 0), labels(150, other, 1)
    mixed = torch.where(torch.arange(150) < 90, first, second)
    for a, b in ((first, second), (first, mixed), (mixed, first)):
        assert adjusted_rand(a, b) == pytest.approx(
            adjusted_rand_score(a.numpy(), b.numpy()), abs=1e-12
        )


def test_adjusted_rand_by_hand() -> None:
    """Pairs together: 2 in the first, 2 in the second, 1 in both; of 6 pairs, 2/3 are expected: (1
    - 2/3)/(2 - 2/3).
    """
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])
    assert adjusted_rand(first, second) == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))
    assert adjusted_rand(first, first + 5) == 1
    assert adjusted_rand(torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)) == 1


def test_silhouette_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "ROWS_TOGETHER", 32)
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    for k in (2, 9, 60):
        own = labels(100, k, 2)
        assert silhouette(points, own) == pytest.approx(
            silhouette_score(points.numpy(), own.numpy()), abs=1e-5
        )


def test_silhouette_without_a_meaning_is_not_a_number() -> None:
    assert isnan(silhouette(torch.eye(3), torch.zeros(3, dtype=torch.int64)))
    assert isnan(silhouette(torch.eye(3), torch.arange(3)))
    assert silhouette(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])) == 0


def test_measures_of_counts_are_those_of_labels() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    second = np.where(rng.random(60) < 0.5, first % 3, second)
    counts = np.zeros((4, 5))
    np.add.at(counts, (first, second), 1)
    tensors = torch.from_numpy(first), torch.from_numpy(second)
    assert nmi_of_counts(counts) == pytest.approx(nmi(*tensors))
    assert adjusted_rand_of_counts(counts) == pytest.approx(adjusted_rand(*tensors))
    assert nmi_of_counts(np.array([[7.0]])) == adjusted_rand_of_counts(np.array([[7.0]])) == 1.0
