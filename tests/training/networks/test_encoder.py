"""Encoder, momentum twin and queue: what follows what, and what is left alone."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pauc_hub.models.architectures import NETWORKS
from pauc_hub.training.networks.encoder import Encoder, MomentumPair, Queue
from pauc_hub.training.networks.norms import GroupedBatchNorm

DIM, SIDE = 8, 32


@pytest.fixture
def pair() -> MomentumPair:
    torch.manual_seed(0)
    return MomentumPair("test_resnet", DIM, queue=12, group=32)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def test_queries_and_keys_are_unit_rows(pair: MomentumPair) -> None:
    q, k = pair.queries(images(6)), pair.keys(images(6), torch.Generator())
    assert q.shape == k.shape == (6, DIM)
    assert torch.allclose(q.norm(dim=1), torch.ones(6), atol=1e-5)
    assert torch.allclose(k.norm(dim=1), torch.ones(6), atol=1e-5)


def test_gradient_reaches_the_query_encoder_and_not_the_key_encoder(pair: MomentumPair) -> None:
    loss = (pair.queries(images(6)) * pair.keys(images(6, 1), torch.Generator())).sum()
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in pair.query.parameters())
    assert all(p.grad is None for p in pair.key.parameters())


def test_keys_come_back_in_the_order_of_their_images(pair: MomentumPair) -> None:
    """In evaluation mode there is no batch statistic, so each image's key is its own whatever the
    permutation.
    """
    pair.eval()
    x = images(70)
    alone = torch.cat([pair.key(x[i : i + 1]) for i in range(70)])
    assert torch.allclose(pair.keys(x, torch.Generator().manual_seed(3)), alone, atol=1e-4)


def test_query_and_key_of_an_image_do_not_share_their_batch_statistics(pair: MomentumPair) -> None:
    """64 images in two groups: with the keys' groups permuted, equal encoders still give different
    outputs.
    """
    x = images(64)
    assert not torch.allclose(
        pair.queries(x), pair.keys(x, torch.Generator().manual_seed(0)), atol=1e-3
    )


def test_statistics_are_taken_within_groups_of_neighbours(pair: MomentumPair) -> None:
    x, undivided = images(64), Encoder("test_resnet", DIM)
    undivided.load_state_dict(pair.query.state_dict())
    queries = pair.queries(x)
    parts = torch.cat([undivided(x[:32]), undivided(x[32:])])
    assert torch.allclose(queries, parts, atol=1e-5)
    statistics = dict(undivided.named_buffers())
    for name, statistic in pair.query.named_buffers():
        assert torch.allclose(statistic.float(), statistics[name].float(), atol=1e-6), name
    assert not torch.allclose(queries, undivided(x), atol=1e-3)


def test_small_views_leave_the_running_statistics_alone(pair: MomentumPair) -> None:
    def statistics() -> list[torch.Tensor]:
        return [each.clone() for each in pair.query.buffers() if each.is_floating_point()]

    before = statistics()
    small = F.interpolate(images(64), SIDE // 2)
    q = pair.small_queries(small)
    assert all(mine.equal(other) for mine, other in zip(statistics(), before, strict=True))
    assert q.requires_grad
    assert torch.equal(q, pair.queries(small))
    assert not all(mine.equal(other) for mine, other in zip(statistics(), before, strict=True))


@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_norm_of_every_architecture_is_grouped(architecture: str) -> None:
    norms = [
        layer
        for layer in Encoder(architecture, DIM, 32).modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    assert len(norms) > 15
    assert all(isinstance(layer, GroupedBatchNorm) and layer.group == 32 for layer in norms)


def test_the_key_encoder_follows_in_its_weights_alone(pair: MomentumPair) -> None:
    with torch.no_grad():
        for parameter in pair.query.parameters():
            parameter.add_(1.0)
    pair.queries(images(32))  # moves the query encoder's running statistics
    slow = {name: value.clone() for name, value in pair.key.state_dict().items()}
    fast = dict(pair.query.named_parameters())
    pair.follow(0.9)
    for name, value in pair.key.state_dict().items():
        expected = 0.9 * slow[name] + 0.1 * fast[name] if name in fast else slow[name]
        assert torch.allclose(value, expected, atol=1e-6), name


@pytest.mark.parametrize("parts", [1, 2])
def test_the_key_encoders_statistics_are_those_of_its_own_batches(
    pair: MomentumPair, parts: int
) -> None:
    pair.parts = parts
    x, alone = images(64), Encoder("test_resnet", DIM)
    alone.load_state_dict(pair.key.state_dict())
    before = statistics(alone)
    pair.keys(x, torch.Generator().manual_seed(3))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    for group in torch.split(x[order], 32):
        alone(group)
    after = statistics(alone)
    assert len(after) > 15
    for name, value in statistics(pair.key).items():
        assert torch.allclose(value, after[name], atol=1e-6), name
        assert not torch.allclose(value, before[name], atol=1e-4), name


def statistics(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {
        name: value.clone() for name, value in encoder.named_buffers() if value.is_floating_point()
    }


def test_the_queue_replaces_its_oldest_rows_and_goes_round() -> None:
    queue = Queue(5, 2)
    for start in (0, 3):
        keys = torch.arange(start, start + 3.0)
        queue.push(keys.unsqueeze(1).repeat(1, 2), 10 + keys.long())
    assert queue.rows[:, 0].tolist() == [5.0, 1.0, 2.0, 3.0, 4.0]
    assert queue.index.tolist() == [15, 11, 12, 13, 14]
    assert int(queue.position) == 1


def test_the_queue_knows_the_older_keys_of_an_image_and_none_before_it_is_filled() -> None:
    queue = Queue(4, 2)
    assert queue.index.tolist() == [-1] * 4
    queue.push(torch.ones(3, 2), torch.tensor([7, 0, 7]))
    expected = [[True, False, True, False], [False] * 4, [False, True, False, False]]
    assert queue.masked(torch.tensor([7, 3, 0]), own=True).tolist() == expected
    assert not queue.masked(torch.tensor([7, 3, 0]), own=False).any()


def test_a_queue_that_forgets_counts_no_key_until_it_is_replaced() -> None:
    queue = Queue(4, 2)
    queue.push(torch.ones(4, 2), torch.tensor([7, 0, 7, 1]))
    queue.forget()
    for own in (True, False):
        assert queue.masked(torch.tensor([7, 3]), own=own).all()
    queue.push(torch.ones(2, 2), torch.tensor([3, 7]))
    assert queue.masked(torch.tensor([7, 3]), own=True).tolist() == [
        [False, True, True, True],
        [True, False, True, True],
    ]
    assert (
        queue.masked(torch.tensor([7, 3]), own=False).tolist() == [[False, False, True, True]] * 2
    )


def test_the_queue_begins_with_unit_rows_and_keeps_no_gradient() -> None:
    queue = Queue(7, 3)
    assert torch.allclose(queue.rows.norm(dim=1), torch.ones(7), atol=1e-6)
    queue.push(torch.ones(2, 3, requires_grad=True), torch.arange(2))
    assert not queue.rows.requires_grad


def gradients(
    parts: int, dtype: torch.dtype = torch.float32, *, count: int = 100, compiled: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Of a loss that no part of the batch has alone; and the state that is left."""
    torch.manual_seed(0)
    pair = MomentumPair("test_resnet", DIM, queue=12, group=32, parts=parts, compiled=compiled)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        q = pair.queries(images(count))  # 100 are groups of 34, 33 and 33
    torch.autograd.backward(torch.logsumexp(5 * q @ q.T, dim=1).mean())
    found = {name: p.grad for name, p in pair.query.named_parameters() if p.grad is not None}
    return found, {name: b for name, b in pair.query.named_buffers() if b.is_floating_point()}


@pytest.mark.parametrize("parts", [2, 3])
def test_in_parts_gradients_and_statistics_are_those_of_the_whole(parts: int) -> None:
    (whole, statistics), (divided, others) = gradients(1), gradients(parts)
    assert whole.keys() == divided.keys()
    for name, gradient in whole.items():
        assert torch.allclose(divided[name], gradient, rtol=1e-4, atol=1e-6), name
    assert [name for name in statistics if not statistics[name].equal(others[name])] == []


def test_in_parts_the_gradient_is_near_in_half_precision_too() -> None:
    """Weights are rounded anew for each part, and their gradients summed in full precision."""
    (whole, _), (divided, _) = (gradients(parts, torch.bfloat16, count=64) for parts in (1, 2))
    assert all((divided[name] - g).norm() <= 0.05 * g.norm() + 1e-6 for name, g in whole.items())


def test_in_parts_the_activations_of_one_alone_are_kept() -> None:
    def kept(parts: int) -> int:
        pair, sizes = MomentumPair("test_resnet", DIM, queue=12, group=32, parts=parts), list[int]()

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            pair.queries(images(64))
        return sum(sizes)

    assert kept(2) < kept(1) / 10


def test_after_parts_the_statistics_move_again(pair: MomentumPair) -> None:
    momenta = [
        layer.momentum for layer in pair.query.modules() if isinstance(layer, nn.BatchNorm2d)
    ]
    pair.parts = 2
    torch.autograd.backward(pair.queries(images(64)).sum())
    assert momenta == [
        layer.momentum for layer in pair.query.modules() if isinstance(layer, nn.BatchNorm2d)
    ]
    assert 0.0 not in momenta


def test_compiled_and_in_parts_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's tracing alone, without the compiler behind it, which takes its time."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for mine, others in zip(
        gradients(2, count=128, compiled=True), gradients(1, count=128), strict=True
    ):
        assert all(
            torch.allclose(mine[name], value, rtol=1e-3, atol=1e-5)
            for name, value in others.items()
        )
