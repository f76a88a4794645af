"""Batch norm in groups: what torch's does to each group by itself, forward and backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pauc_hub.training.networks.norms import GroupedBatchNorm, group_count, measure_statistics

CHANNELS, GROUP = 5, 4
Norm = Callable[[Tensor], Tensor]


def layers(device: str = "cpu") -> tuple[GroupedBatchNorm, nn.BatchNorm2d]:
    """In groups and plain, with the same random weights."""
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(CHANNELS)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    grouped = GroupedBatchNorm(CHANNELS, group=GROUP)
    grouped.load_state_dict(plain.state_dict())
    return grouped.to(device), plain.to(device)


def some(
    count: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Images, channels last, that differ from group to group, and a gradient for what comes of
    them.
    """
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(count, CHANNELS, 3, 2, generator=draws) * torch.arange(1, count + 1).view(
        -1, 1, 1, 1
    )
    gradient = torch.randn(images.shape, generator=draws)
    first, second = (
        each.to(device, dtype, memory_format=torch.channels_last) for each in (images, gradient)
    )
    return first.requires_grad_(), second


def gradients(norm: nn.BatchNorm2d, forward: Norm, images: Tensor, above: Tensor) -> list[Tensor]:
    """What comes out, and the gradients to images, weight and bias."""
    found = forward(images)
    return [found.detach(), *torch.autograd.grad(found, [images, norm.weight, norm.bias], above)]


def agree(count: int, dtype: torch.dtype, device: str, tolerance: float) -> None:
    (grouped, plain), (images, above) = layers(device), some(count, dtype, device)
    sizes = [len(each) for each in images.tensor_split(group_count(count, GROUP))]

    def one_by_one(x: Tensor) -> Tensor:
        return torch.cat([plain(each) for each in torch.split(x, sizes)])

    mine = gradients(grouped, grouped, images, above)
    theirs = gradients(plain, one_by_one, images, above)
    for found, expected in zip(mine, theirs, strict=True):
        assert found.dtype == expected.dtype
        assert torch.allclose(
            found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
        )
    assert mine[0].is_contiguous(memory_format=torch.channels_last)
    for name, statistic in grouped.named_buffers():
        assert torch.allclose(
            statistic.float(), dict(plain.named_buffers())[name].float(), rtol=tolerance
        ), name


@pytest.mark.parametrize("count", [3, 4, 7, 8, 13, 14])  # one group, equal ones, unequal ones
def test_in_groups_it_is_torchs_of_each_group(count: int) -> None:
    agree(count, torch.float32, "cpu", 1e-5)


def test_half_precision_is_torchs_too() -> None:
    agree(13, torch.bfloat16, "cpu", 1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_on_a_gpu_it_is_torchs_of_each_group(dtype: torch.dtype, tolerance: float) -> None:
    agree(13, dtype, "cuda", tolerance)


def test_its_gradient_is_that_of_finite_differences() -> None:
    grouped, _ = layers()
    grouped.double()
    images = some(9)[0].detach().double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w, b: functional(grouped, x, w, b), (images, grouped.weight, grouped.bias)
    )


def functional(norm: nn.BatchNorm2d, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    found: Tensor = torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (images,))
    return found


def test_whole_batches_differ() -> None:
    (grouped, plain), (images, _) = layers(), some(8)
    assert not torch.allclose(grouped(images), plain(images), atol=0.1)


def test_in_evaluation_it_is_torchs_with_the_running_statistics() -> None:
    (grouped, plain), (images, _) = layers(), some(8)
    grouped(images)
    plain.load_state_dict(grouped.state_dict())
    assert torch.equal(grouped.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("size", [1, 4, 7])
def test_some_of_the_groups_alone_fall_into_the_same_groups(size: int) -> None:
    """That is what `accumulate` and several processes rest on."""
    for count in range(size, 12 * size):
        groups = torch.arange(count).tensor_split(group_count(count, size))
        assert min(map(len, groups)) >= min(size, count)
        for first in range(len(groups)):
            for last in range(first + 1, len(groups) + 1):
                some_of_them = torch.cat(groups[first:last])
                again = some_of_them.tensor_split(group_count(len(some_of_them), size))
                assert [len(each) for each in again] == [len(each) for each in groups[first:last]]


def test_measured_statistics_are_the_mean_of_the_batches_own() -> None:
    layer = GroupedBatchNorm(3, group=2)
    draws = torch.Generator().manual_seed(0)
    batches = [
        torch.randn(6, 3, 4, 4, generator=draws) * scale + scale for scale in (1.0, 2.0, 5.0)
    ]
    # whatever has been seen before
    layer(100 + batches[0])
    measure_statistics(nn.Sequential(layer), batches, torch.float32)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    each = [(batch.mean(dim=(0, 2, 3)), batch.var(dim=(0, 2, 3))) for batch in batches]
    for found, values in zip(
        (layer.running_mean, layer.running_var), zip(*each, strict=True), strict=True
    ):
        torch.testing.assert_close(found, torch.stack(values).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert (layer.momentum, layer.group) == (0.1, 2)
