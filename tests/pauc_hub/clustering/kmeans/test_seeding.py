"""Seeds: drawn as k-means++ draws them, from points in any order, and from points of which few
differ.
"""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from pauc_hub.clustering.kmeans import seeding
from pauc_hub.clustering.kmeans.collective import ALONE
from pauc_hub.clustering.kmeans.seeding import plus_plus


def seeds(points: Tensor, k: int, seed: int) -> Tensor:
    return plus_plus(
        points, points.square().sum(dim=1), k, torch.Generator().manual_seed(seed), ALONE
    )


def rows_of(points: Tensor, chosen: Tensor) -> list[int]:
    return [int((points == row).all(dim=1).nonzero()[0, 0]) for row in chosen]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points are proposed, each time that some are."""
    counts: list[int] = []
    propose = seeding._propose

    def counted(
        points: Tensor, weights: Tensor, count: int, *rest: object
    ) -> tuple[Tensor, Tensor]:
        counts.append(count)
        return propose(points, weights, count, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(seeding, "_propose", counted)
    return counts


def exact_probabilities(points: Tensor, k: int) -> dict[frozenset[int], float]:
    """Of every set of k points, by going through all orders in which k-means++ could draw it."""
    distances = torch.cdist(points.double(), points.double()).square()
    found: dict[frozenset[int], float] = {}
    for order in permutations(range(len(points)), k):
        probability = 1 / len(points)
        for i in range(1, k):
            gaps = distances[:, list(order[:i])].amin(dim=1)
            probability *= float(gaps[order[i]] / gaps.sum())
        found[frozenset(order)] = found.get(frozenset(order), 0) + probability
    return found


def test_the_seeds_have_the_distribution_of_k_means_plus_plus() -> None:
    """Three pairs and a lone point: without rejection, both points of a pair would be drawn far
    more often.
    """
    points = torch.tensor(
        [[0.0, 0.0], [0.0, 0.6], [4.0, 0.0], [4.0, 0.9], [0.0, 5.0], [1.0, 5.0], [3.0, 3.0]]
    )
    expected = exact_probabilities(points, 4)
    draws = 1500
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        counts[frozenset(rows_of(points, seeds(points, 4, seed)))] += 1
    distance = sum(abs(counts[each] / draws - expected[each]) for each in expected) / 2
    assert distance < 0.05  # total variation; 0.04 are the noise of so many draws


def test_a_proposal_is_kept_with_the_share_of_its_distance_that_is_left() -> None:
    """By hand: the first always; the second, 1 from it, in 1 of 4; the third, 4 from the first and
    9 from the second, in 4 of 8 for the first's sake and no less for the second's.
    """
    proposed, distances = torch.tensor([[0.0], [1.0], [-2.0]]), torch.tensor([5.0, 4.0, 8.0])
    generator = torch.Generator().manual_seed(0)
    kept = torch.stack(
        [seeding._accepted(proposed, distances, generator) for _ in range(3000)]
    ).double()
    assert kept.mean(dim=0).tolist() == pytest.approx([1, 1 / 4, 4 / 8], abs=0.03)


def test_a_rejected_proposal_rejects_no_other() -> None:
    """The second has all but nothing left of its distance; the third has all of it left, but for
    the second.
    """
    proposed, distances = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 1e9, 4.0])
    generator = torch.Generator().manual_seed(0)
    kept = {tuple(seeding._accepted(proposed, distances, generator).tolist()) for _ in range(50)}
    assert kept == {(True, False, True)}


def test_no_seed_is_drawn_twice_while_points_differ() -> None:
    points = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    assert len(set(rows_of(points, seeds(points, 300, seed=1)))) == 300


def test_where_few_points_differ_each_is_a_seed_and_equal_ones_fill_up(rounds: list[int]) -> None:
    points = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).repeat(40, 1)
    found = seeds(points, 50, seed=0)
    assert found.shape == (50, 16)
    assert sorted(rows_of(points, found[:5])) == [0, 1, 2, 3, 4]  # before any comes again
    assert len(rounds) < 8  # rounding would leave something to draw from, one seed a round


def test_every_blob_gets_a_seed_where_blobs_lie_far_apart() -> None:
    """1000 random rows would leave a third of the blobs without."""
    labels = torch.arange(1000).repeat_interleave(5)
    generator = torch.Generator().manual_seed(0)
    centres = 100 * torch.randn(1000, 16, generator=generator)
    points = centres[labels] + 0.1 * torch.randn(5000, 16, generator=generator)
    chosen = labels[torch.tensor(rows_of(points, seeds(points, 1000, seed=3)))]
    assert len(set(chosen.tolist())) >= 995


def test_the_order_of_the_points_does_not_leak_into_the_seeds() -> None:
    """The first rows of a sorted data set would all be of one class (PCL's issue 6)."""
    points = torch.arange(1000.0).unsqueeze(1)
    firsts = torch.cat([seeds(points, 1, seed) for seed in range(60)])
    assert 350 < firsts.mean().item() < 650


def test_thousands_of_seeds_take_few_rounds(rounds: list[int]) -> None:
    seeds(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), 1000, seed=0)
    assert 10 < len(rounds) < 25
