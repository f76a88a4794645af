"""The kNN probe by hand and against a plain loop."""

from math import exp

import pytest
import torch

from pauc_hub.evaluation import knn as probe
from pauc_hub.evaluation.knn import knn_predict


def test_one_close_neighbour_outvotes_two_far_ones_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]])
    labels = torch.tensor([1, 0, 0])
    assert exp(1 / 0.1) > 2 * exp(0.6 / 0.1)
    assert knn_predict(bank, labels, torch.tensor([[2.0, 0.0]]), k=3, temperature=0.1).tolist() == [
        1
    ]
    assert exp(1 / 1.0) < 2 * exp(0.6 / 1.0)
    assert knn_predict(bank, labels, torch.tensor([[2.0, 0.0]]), k=3, temperature=1.0).tolist() == [
        0
    ]


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_it_equals_a_plain_loop_whatever_the_chunks(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(60, 8, generator=generator), torch.randn(20, 8, generator=generator)
    labels = torch.randint(0, 4, (60,), generator=generator)
    expected = []
    for query in queries:
        similarity = [float(query @ row / (query.norm() * row.norm())) for row in bank]
        nearest = sorted(range(60), key=lambda i: -similarity[i])[:15]
        votes = [sum(exp(similarity[i] / 0.1) for i in nearest if labels[i] == c) for c in range(4)]
        expected.append(votes.index(max(votes)))
    assert knn_predict(bank, labels, queries, k=15).tolist() == expected


def test_the_length_of_features_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(30, 5, generator=generator), torch.randn(10, 5, generator=generator)
    labels = torch.arange(30) % 3
    scaled = knn_predict(
        bank * torch.rand(30, 1, generator=generator).add(0.1), labels, queries * 7, k=5
    )
    assert torch.equal(scaled, knn_predict(bank, labels, queries, k=5))


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_the_bank_has_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the size of the bank, 3"):
        knn_predict(torch.eye(3), torch.arange(3), torch.eye(3), k=k)
