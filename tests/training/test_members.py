"""Members of a batch's prototypes by hand, the draw of negatives, and means over batch and
queue.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.training import objectives
from pauc_hub.training.members import (
    batch_members,
    batch_prototypes,
    choose_prototypes,
    past_members,
    share_alone,
)


def unit(rows: int, width: int, seed: int) -> Tensor:
    return F.normalize(
        torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1
    )


# --- the choice of negatives ---------------------------------------------------------------------


def chosen_of(
    own: Tensor, count: int, negatives: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """The prototypes in J, and those that the images' targets point at."""
    members = batch_members(own)
    chosen, there, target = choose_prototypes(members, count, negatives, generator)
    assert bool(there[target].all())
    return chosen[there].tolist(), chosen[target].tolist()


def test_all_prototypes_are_chosen_where_they_are_few() -> None:
    chosen, targets = chosen_of(torch.tensor([3, 1, 3]), 5, 5, torch.Generator())
    assert chosen == [0, 1, 2, 3, 4]
    assert targets == [3, 1, 3]


@pytest.mark.parametrize("seed", range(20))
def test_above_the_limit_every_hit_prototype_is_chosen_once_and_the_rest_without_repetition(
    seed: int,
) -> None:
    own = torch.tensor([90, 4, 4, 57, 90])
    chosen, targets = chosen_of(own, 100, 10, torch.Generator().manual_seed(seed))
    assert len(chosen) == 3 + 10
    assert len(set(chosen)) == len(chosen)
    assert targets == own.tolist()


def test_every_other_prototype_is_drawn_about_equally_often() -> None:
    own, generator = torch.tensor([0, 7]), torch.Generator().manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(2000):
        counts[chosen_of(own, 20, 6, generator)[0]] += 1
    assert counts[[0, 7]].tolist() == [2000, 2000]
    others = counts[[i for i in range(20) if i not in (0, 7)]]
    assert (others / 2000 - 6 / 18).abs().max().item() < 0.05


def test_fewer_others_than_negatives_asked_for_are_all_taken() -> None:
    chosen, _ = chosen_of(torch.tensor([0, 1, 2]), 4, 3, torch.Generator().manual_seed(0))
    assert sorted(chosen) == [0, 1, 2, 3]


def test_rows_that_only_fill_the_shape_are_no_negatives_and_get_no_gradient() -> None:
    """Two images of one prototype: the loss of J with its filling is that of J alone."""
    own, q = torch.tensor([4, 4, 1]), unit(3, 8, 0).requires_grad_()
    prototypes, phi = unit(9, 8, 1), torch.linspace(0.1, 0.5, 9)
    members = batch_members(own)
    chosen, there, target = choose_prototypes(members, 9, 3, torch.Generator().manual_seed(0))
    assert there.tolist() == [True, True, False, True, True, True]
    loss = objectives.proto_nce(q, prototypes[chosen], phi[chosen], target, there)
    real = chosen[there]
    places = torch.tensor([real.tolist().index(each) for each in own.tolist()])
    alone = objectives.proto_nce(q, prototypes[real], phi[real], places)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    (filled,), (expected,) = (torch.autograd.grad(each, q) for each in (loss, alone))
    assert torch.allclose(filled, expected, atol=1e-6)


# --- prototypes of the batch ---------------------------------------------------------------------


def test_members_by_hand() -> None:
    members = batch_members(torch.tensor([5, 5, 2, 9, 5]))
    assert members.hit.tolist() == [2, 5, 9, 0, 0]  # the last two fill the shape
    assert members.number.tolist() == [1, 1, 0, 2, 1]
    assert members.sizes.tolist() == [1.0, 3.0, 1.0, 0.0, 0.0]
    assert members.there.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("own", [[3], [0, 0, 0], [7, 7, 7], [4, 3, 2], [1, 0, 1, 0]])
def test_members_of_any_batch_are_those_of_unique(own: list[int]) -> None:
    hit, number, sizes = torch.unique(torch.tensor(own), return_inverse=True, return_counts=True)
    members = batch_members(torch.tensor(own))
    rest = [0] * (len(own) - len(hit))
    assert members.hit.tolist() == hit.tolist() + rest
    assert members.number.tolist() == number.tolist()
    assert members.sizes.tolist() == sizes.tolist() + rest


def means(x: Tensor, own: Tensor) -> Tensor:
    """Those that are there; the rows that fill the shape must be zero."""
    members = batch_members(own)
    p = batch_prototypes(x, members)
    assert p.shape == x.shape
    assert p[members.sizes == 0].abs().sum().item() == 0
    return p[members.sizes > 0]


def test_batch_prototypes_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.6, 0.8]])
    p = means(x, torch.tensor([5, 5, 2, 9]))
    # prototype 2, hit once: the image itself
    assert p[0].tolist() == pytest.approx([0.0, -1.0], abs=1e-6)
    # prototype 5, mean (1/2, 1/2)
    assert p[1].tolist() == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-6)
    assert p[2].tolist() == pytest.approx([0.6, 0.8], abs=1e-6)


def test_batch_prototypes_of_images_that_are_all_apart_are_the_images() -> None:
    x = unit(6, 16, 0)
    assert torch.allclose(means(x, torch.arange(6)), x, atol=1e-6)


def test_batch_prototypes_of_images_that_are_all_together_are_their_mean() -> None:
    x = unit(6, 16, 0)
    expected = F.normalize(x.mean(dim=0, keepdim=True), dim=1)
    assert torch.allclose(means(x, torch.full((6,), 3)), expected, atol=1e-6)


def test_a_mean_of_zero_length_has_a_finite_gradient() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    p = means(x, torch.tensor([0, 0]))
    torch.autograd.backward(p.sum())
    assert p.abs().max().item() < 1e-3
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_past_members_by_hand() -> None:
    members = batch_members(torch.tensor([5, 2, 5]))
    queue = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])
    # of prototypes 5, none, 5 and 3, which the batch does not hit
    past = past_members(members, queue, torch.tensor([5, -1, 5, 3]), 7)
    assert past.sizes.tolist() == [0.0, 2.0, 0.0]
    assert past.sums[1].tolist() == pytest.approx([1.6, 0.8])
    assert past.sums[[0, 2]].abs().sum().item() == 0
    x = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.6, -0.8]])
    p = batch_prototypes(x, members, past)
    assert p[0].tolist() == pytest.approx([-1.0, 0.0], abs=1e-6)
    # two of the batch and two of the queue: x is 0, 0.6, 1 and 0.6, y is 1, -0.8, 0 and 0.8
    length = (2.2**2 + 1.0**2) ** 0.5
    assert p[1].tolist() == pytest.approx([2.2 / length, 1.0 / length], abs=1e-6)
    assert p[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("own", "share"), [([3], 1.0), ([1, 1, 1], 0.0), ([4, 0, 4, 2], 0.5), ([0, 1, 2], 1.0)]
)
def test_the_share_of_images_alone(own: list[int], share: float) -> None:
    assert share_alone(torch.tensor(own)).item() == share
