"""Near-duplicates among vectors: who is kept, and how far its copies are."""

import numpy as np
import pytest
import torch

from pauc_hub.retrieval import duplicates
from pauc_hub.retrieval.cosine import Vectors
from pauc_hub.retrieval.duplicates import count_pairs_above, find_copies

CPU = torch.device("cpu")
D = 16


def unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def naive(vectors: Vectors, order: list[int], threshold: float) -> tuple[list[int], list[float]]:
    """One row after the other, in float64."""
    units = unit(vectors.astype(np.float64))
    kept: list[int] = []
    keeper = list(range(len(vectors)))
    similarity = [1.0] * len(vectors)
    for row in order:
        scores = [float(units[row] @ units[other]) for other in kept]
        if scores and max(scores) >= threshold:
            keeper[row] = kept[int(np.argmax(scores))]
            similarity[row] = max(scores)
        else:
            kept.append(row)
    return keeper, similarity


@pytest.mark.parametrize("block", [3, 7, 64])
def test_the_same_copies_as_one_row_after_the_other(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, D))
    vectors = (centres[rng.integers(0, 12, 40)] + 0.25 * rng.normal(size=(40, D))).astype(
        np.float32
    )
    order = rng.permutation(40).tolist()
    expected, scores = naive(vectors, order, 0.95)
    done: list[int] = []
    found = find_copies(vectors, order, 0.95, device=CPU, advance=done.append)
    assert sorted(set(expected)) != list(range(40))
    assert found.keeper.tolist() == expected
    np.testing.assert_allclose(found.similarity, scores, atol=1e-5)
    assert sum(done) == 40


def test_a_chain_does_not_join_its_ends() -> None:
    angles = np.deg2rad([0, 10, 20, 30])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = find_copies(
        chain, [0, 1, 2, 3], float(np.cos(np.deg2rad(11))), device=CPU, advance=lambda _: None
    )
    assert found.keeper.tolist() == [0, 0, 2, 2]


def test_the_first_in_the_order_is_kept() -> None:
    same = np.ones((3, 4))
    assert find_copies(
        same, [2, 0, 1], 0.9, device=CPU, advance=lambda _: None
    ).keeper.tolist() == [2, 2, 2]


def test_rows_of_zeros_are_like_nothing() -> None:
    found = find_copies(np.zeros((3, 4)), [0, 1, 2], 0.5, device=CPU, advance=lambda _: None)
    assert found.keeper.tolist() == [0, 1, 2]


def test_pairs_above_a_threshold_are_counted_without_the_row_itself() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    counts = count_pairs_above(vectors, np.array([0, 2]), (0.99, 0.7), device=CPU)
    # of row 0: row 1; besides it row 3. Of row 2: row 3.
    assert counts.tolist() == [1, 3]
