"""Copies of training images among test images."""

import numpy as np
import pytest
import torch

from pauc_hub.retrieval import leakage
from pauc_hub.retrieval.leakage import copied_rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("together", [3, 4096])
def test_copies_are_found_whatever_their_length_and_the_blocks(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leakage, "ROWS_TOGETHER", together)
    rng = np.random.default_rng(0)
    train = rng.normal(size=(20, 30)).astype(np.float32)
    test = rng.normal(size=(8, 30)).astype(np.float32)
    test[2] = 3 * train[17]
    test[5] = train[4] + 0.02 * test[5]  # as a re-encoded copy
    test[7] = train[9] + 0.2 * test[7]  # alike, and no copy
    counted: list[int] = []
    found = copied_rows(train, test, device=CPU, advance=counted.append)
    assert found.tolist() == [-1, -1, 17, -1, -1, 4, -1, -1]
    assert sum(counted) == 20


def test_of_several_copies_the_most_similar_counts() -> None:
    test = np.array([[1.0, 0.0]], np.float32)
    train = np.array([[1.0, 0.02], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert copied_rows(train, test, device=CPU, advance=lambda count: None).tolist() == [1]
    assert copied_rows(-train, test, device=CPU, advance=lambda count: None).tolist() == [-1]
