"""Objectives against hand values, a plain float64 reference, and what must hold for any input."""

from collections.abc import Callable
from math import exp, log

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.training import objectives
from pauc_hub.training.members import batch_members, batch_prototypes, past_members

Matrix = npt.NDArray[np.float64]


def unit(rows: int, width: int, seed: int) -> Tensor:
    return F.normalize(
        torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1
    )


# --- InfoNCE -------------------------------------------------------------------------------------


def test_info_nce_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    k = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    loss = objectives.info_nce(q, k, queue, temperature=0.5)
    first = log(exp(2) + 1 + exp(-2) + 1) - 2  # similarities 1 | 0, -1, 0
    second = log(1 + exp(2) + 1 + exp(-2)) - 0  # similarities 0 | 1, 0, -1
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_info_nce_leaves_masked_keys_out_of_the_negatives() -> None:
    q, k = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    own = torch.tensor([[False, True, False], [True, False, False]])
    # logits: 2 against 0 and 2; and 0 against 0 and 0
    expected = (log(exp(2) + 1 + exp(2)) - 2 + log(3)) / 2
    assert objectives.info_nce(q, k, queue, 0.5, own).item() == pytest.approx(expected, abs=1e-6)
    none = torch.zeros_like(own)
    assert objectives.info_nce(q, k, queue, 0.5, none).equal(objectives.info_nce(q, k, queue, 0.5))


def test_info_nce_without_any_negative_left_is_zero_and_so_is_its_gradient() -> None:
    q = unit(2, 4, 0).requires_grad_()
    loss = objectives.info_nce(
        q, unit(2, 4, 1), unit(3, 4, 2), 0.2, torch.ones(2, 3, dtype=torch.bool)
    )
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0] * 4] * 2


def test_info_nce_is_log_of_the_candidates_where_nothing_is_told_apart() -> None:
    same = torch.tensor([[0.6, 0.8]]).repeat(3, 1)
    assert objectives.info_nce(same[:2], same[:2], same, 0.2).item() == pytest.approx(
        log(4), abs=1e-6
    )


# --- ProtoNCE ------------------------------------------------------------------------------------


def test_proto_nce_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss = objectives.proto_nce(q, prototypes, torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0, 1]))
    first = log(exp(2) + 1 + exp(-0.5)) - 2  # logits 2, 0, -0.5
    second = log(1 + exp(1) + 1) - 1  # logits 0, 1, 0
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_proto_nce_counts_a_shared_prototype_once_so_it_is_nobodys_negative() -> None:
    """Two images of one prototype: the authors' code has its column twice, and each pushes from the
    other's copy.
    """
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    own = torch.tensor([0, 0])
    ours = objectives.proto_nce(q, prototypes, torch.ones(2), own).item()
    assert ours == pytest.approx(log(exp(1) + exp(-1)) - 1, abs=1e-6)
    # one column an image, as in their issue 5: never below log 2
    stacked = log(exp(1) + exp(1) + exp(-1)) - 1
    assert ours < stacked


def test_proto_nce_of_one_prototype_is_zero() -> None:
    q = unit(4, 8, 0)
    loss = objectives.proto_nce(
        q, unit(1, 8, 1), torch.tensor([0.3]), torch.zeros(4, dtype=torch.int64)
    )
    assert loss.item() == 0.0


# --- PAUC's three terms --------------------------------------------------------------------------


def padded(p: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Zero rows behind, as batch_prototypes() leaves them; and which rows are there."""
    filling = p.new_zeros(rows - len(p), p.shape[1])
    return torch.cat([p, filling]), (torch.arange(rows) < len(p)).float()


def alignment(p: Tensor, p_key: Tensor) -> Tensor:
    filled, there = padded(p, len(p) + 2)
    return objectives.alignment_loss(filled, padded(p_key, len(p) + 2)[0], there)


def uniformity(p: Tensor) -> Tensor:
    return objectives.uniformity_loss(*padded(p, len(p) + 2))


def correlation(p: Tensor, p_key: Tensor, **options: float) -> Tensor:
    filled, there = padded(p, len(p) + 2)
    return objectives.correlation_loss(filled, padded(p_key, len(p) + 2)[0], there, **options)


def test_alignment_by_hand() -> None:
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    p_key = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6]])
    assert alignment(p, p_key).item() == pytest.approx((0 + 4 + 0.04 + 0.04) / 3, abs=1e-6)


def test_alignment_is_blind_to_how_members_spread_about_their_mean() -> None:
    def loss(half_angle: float) -> float:
        q = torch.tensor(
            [[np.cos(half_angle), np.sin(half_angle)], [np.cos(half_angle), -np.sin(half_angle)]]
        )
        own = torch.tensor([0, 0])
        key = torch.tensor([[0.8, 0.6], [0.8, 0.6]])
        members = batch_members(own)
        p, p_key = (batch_prototypes(x, members) for x in (q.float(), key))
        return objectives.alignment_loss(p, p_key, members.there).item()

    assert loss(0.1) == pytest.approx(loss(1.2), abs=1e-6)


def test_uniformity_by_hand() -> None:
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    squared = [2, 4, 2]  # of the three pairs
    expected = log(sum(exp(-2 * each) for each in squared) / 3)
    assert uniformity(p).item() == pytest.approx(expected, abs=1e-5)


def test_uniformity_is_lower_for_prototypes_that_are_further_apart() -> None:
    close = F.normalize(unit(1, 16, 0) + 0.1 * unit(8, 16, 1), dim=1)
    assert uniformity(unit(8, 16, 2)).item() < uniformity(close).item() <= 0


def test_correlation_by_hand() -> None:
    # columns standardised already
    p = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    p_key = torch.stack([p[:, 0], p[:, 0]], dim=1)  # the second says what the first says
    # X = [[1, 1], [0, 0]]: diagonal (1, 0), off-diagonal (1, 0)
    expected = (0 + 1) / 2 + 3.0 * (1 + 0) / (2 * 1)
    assert correlation(p, p_key, off_diagonal=3.0, eps=0.0).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_correlation_is_zero_for_views_that_agree_on_independent_columns() -> None:
    p = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    assert correlation(p, p, eps=0.0).item() == pytest.approx(0.0, abs=1e-10)


def test_correlation_with_a_constant_column_is_finite_and_so_is_its_gradient() -> None:
    p = torch.stack([torch.ones(4), torch.tensor([1.0, -1.0, 0.5, 0.0])], dim=1).requires_grad_()
    loss = correlation(p, p.detach())
    torch.autograd.backward(loss)
    assert p.grad is not None
    assert bool(torch.isfinite(p.grad).all())
    # the constant column agrees with nothing
    assert loss.item() == pytest.approx((1 + 0) / 2, abs=1e-3)


@pytest.mark.parametrize(
    "term", [uniformity, lambda p: correlation(p, p), lambda p: scattering(p, p)]
)
def test_terms_over_pairs_are_zero_with_a_single_prototype(
    term: Callable[[Tensor], Tensor],
) -> None:
    p = unit(1, 8, 0).requires_grad_()
    loss = term(p)
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert p.grad is not None
    assert p.grad.tolist() == [[0.0] * 8]  # not NaN


def test_with_a_single_prototype_in_the_batch_alignment_is_still_there() -> None:
    p, p_key = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert alignment(p, p_key).item() == pytest.approx(2.0, abs=1e-6)


def test_uniformity_apart_by_hand() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    own = torch.tensor([4, 0, 4])
    # the first and the third have one prototype; the two other pairs are 2 apart
    assert objectives.uniformity_apart(q, own).item() == pytest.approx(log(exp(-4)), abs=1e-5)
    every = torch.arange(3)
    assert objectives.uniformity_apart(q, every).item() == pytest.approx(
        uniformity(q).item(), abs=1e-6
    )


def test_uniformity_apart_of_one_prototype_is_zero_and_so_is_its_gradient() -> None:
    q = unit(3, 8, 0).requires_grad_()
    loss = objectives.uniformity_apart(q, torch.tensor([2, 2, 2]))
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0] * 8] * 3


def scattering(p: Tensor, p_key: Tensor) -> Tensor:
    filled, there = padded(p, len(p) + 2)
    return objectives.scattering(filled, padded(p_key, len(p) + 2)[0], there)


def test_scattering_by_hand() -> None:
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    p_key = torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])
    # cosines over 0.5: own key, then the two other prototypes
    first = log(exp(1.2) + exp(0) + exp(-2)) - 1.2
    second = log(exp(2) + exp(0) + exp(0)) - 2
    third = log(exp(0) + exp(-2) + exp(0)) - 0
    assert scattering(p, p_key).item() == pytest.approx((first + second + third) / 3, abs=1e-6)


def test_scattering_is_log_of_the_prototypes_where_nothing_is_told_apart() -> None:
    same = unit(1, 8, 0).repeat(5, 1)
    assert scattering(same, same).item() == pytest.approx(log(5), abs=1e-5)


# --- float64 references --------------------------------------------------------------------------


def reference_info_nce(q: Matrix, k: Matrix, queue: Matrix, temperature: float) -> float:
    losses = []
    for i in range(len(q)):
        candidates = [q[i] @ k[i] / temperature, *(q[i] @ row / temperature for row in queue)]
        losses.append(-np.log(np.exp(candidates[0]) / np.exp(candidates).sum()))
    return float(np.mean(losses))


def reference_pauc(
    q: Matrix, k: Matrix, own: list[int], off_diagonal: float
) -> tuple[float, float, float]:
    hit = sorted(set(own))

    def prototypes(x: Matrix) -> Matrix:
        means = [np.mean([x[i] for i in range(len(x)) if own[i] == a], axis=0) for a in hit]
        return np.array([mean / np.linalg.norm(mean) for mean in means])

    p, p_key, count, width = prototypes(q), prototypes(k), len(hit), q.shape[1]
    align = np.mean([np.sum((p[a] - p_key[a]) ** 2) for a in range(count)])
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    unif = np.log(np.mean([np.exp(-2 * np.sum((p[a] - p[b]) ** 2)) for a, b in pairs]))
    hat, hat_key = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6) for x in (p, p_key))
    x = hat.T @ hat_key / count
    diagonal = np.mean([(1 - x[d, d]) ** 2 for d in range(width)])
    rest = sum(x[d, e] ** 2 for d in range(width) for e in range(width) if d != e) / (
        width * (width - 1)
    )
    return float(align), float(unif), float(diagonal + off_diagonal * rest)


@pytest.mark.parametrize("seed", range(3))
def test_info_nce_equals_the_float64_reference(seed: int) -> None:
    q, k, queue = unit(7, 16, seed), unit(7, 16, seed + 10), unit(30, 16, seed + 20)
    expected = reference_info_nce(
        q.double().numpy(), k.double().numpy(), queue.double().numpy(), 0.1
    )
    assert objectives.info_nce(q, k, queue, 0.1).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_pauc_terms_equal_the_float64_reference(seed: int) -> None:
    q, k, own = unit(9, 6, seed), unit(9, 6, seed + 10), [4, 4, 0, 2, 2, 2, 7, 0, 1]
    members = batch_members(torch.tensor(own))
    p, p_key = (batch_prototypes(x, members) for x in (q, k))
    align, unif, corr = reference_pauc(q.double().numpy(), k.double().numpy(), own, 0.5)
    assert objectives.alignment_loss(p, p_key, members.there).item() == pytest.approx(
        align, rel=1e-4
    )
    assert objectives.uniformity_loss(p, members.there).item() == pytest.approx(unif, rel=1e-4)
    assert objectives.correlation_loss(p, p_key, members.there, 0.5).item() == pytest.approx(
        corr, rel=1e-3
    )


# --- gradient, order, finite differences ---------------------------------------------------------

OWN = torch.tensor([0, 0, 2, 1, 2])


def every_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    prototypes: Tensor,
    concentration: Tensor,
    own: Tensor = OWN,
) -> dict[str, Tensor]:
    members = batch_members(own)
    p, p_key = batch_prototypes(q, members), batch_prototypes(k, members)
    past = past_members(members, queue, torch.tensor([2, 0, -1, 1, 1, 0, 0]), 3)
    return {
        "infonce": objectives.info_nce(q, k, queue, 0.2),
        "proto": objectives.proto_nce(q, prototypes, concentration, own),
        "align": objectives.alignment_loss(p, p_key, members.there),
        "unif": objectives.uniformity_loss(p, members.there),
        "corr": objectives.correlation_loss(p, p_key, members.there),
        "scatter": objectives.scattering(p, p_key, members.there),
        "unif_apart": objectives.uniformity_apart(q, own),
        "past": objectives.alignment_loss(batch_prototypes(q, members, past), p_key, members.there),
    }


TERMS = ["infonce", "proto", "align", "unif", "corr", "scatter", "unif_apart", "past"]


@pytest.mark.parametrize("name", TERMS)
def test_gradient_reaches_the_queries_and_nothing_else(name: str) -> None:
    q, k, queue, prototypes = (unit(n, 8, n).requires_grad_() for n in (5, 6, 7, 3))
    torch.autograd.backward(
        every_loss(q, k[:5], queue, prototypes, torch.tensor([0.2, 0.1, 0.3]))[name]
    )
    assert q.grad is not None
    assert q.grad.abs().sum().item() > 0
    assert k.grad is None
    assert queue.grad is None
    assert prototypes.grad is None


@pytest.mark.parametrize("name", TERMS)
def test_gradient_equals_finite_differences(name: str) -> None:
    k, queue, prototypes = unit(5, 4, 1).double(), unit(7, 4, 2).double(), unit(3, 4, 3).double()
    phi = torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64)

    def loss(q: Tensor) -> Tensor:
        return every_loss(q, k, queue, prototypes, phi)[name]

    assert torch.autograd.gradcheck(loss, (unit(5, 4, 0).double().requires_grad_(),))


@pytest.mark.parametrize("name", TERMS)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    q = unit(5, 8, 1)
    k = unit(5, 8, 2)
    queue = unit(7, 8, 3)
    prototypes = unit(3, 8, 4)
    phi = torch.ones(3)
    order = torch.tensor([3, 0, 4, 2, 1])

    def loss(rows: Tensor) -> float:
        return every_loss(q[rows], k[rows], queue, prototypes, phi, OWN[rows])[name].item()

    assert loss(order) == pytest.approx(loss(torch.arange(5)), rel=1e-4, abs=1e-6)
