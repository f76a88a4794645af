"""Convolutions by matrix products: torch's own outputs and gradients, wherever a kernel may hang
over the map.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.training.networks import convolutions
from pauc_hub.training.networks.convolutions import Convolution, quickened, weight_gradient

ways = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(0, 3)).filter(
    # length, kernel, stride, padding: something must come out
    lambda way: way[0] + 2 * way[3] >= way[1]
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=200)
@given(down=ways, across=ways)
def test_the_gradient_of_the_weights_is_torchs(
    down: tuple[int, int, int, int], across: tuple[int, int, int, int]
) -> None:
    (height, rows, *_), (width, columns, *_) = down, across
    stride, padding = (down[2], across[2]), (down[3], across[3])
    images = normal(2, 3, height, width)
    weight = normal(4, 3, rows, columns, seed=1).requires_grad_()
    out = F.conv2d(images, weight, stride=stride, padding=padding)
    above = normal(*out.shape, seed=2)
    (expected,) = torch.autograd.grad(out, weight, above)
    assert torch.allclose(
        weight_gradient(images, above, weight.detach(), stride, padding), expected, atol=1e-12
    )


def layers(**wanted: Any) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Ours and torch's, with the same weights."""
    torch.manual_seed(0)
    torchs = nn.Conv2d(8, 16, 3, **({"bias": False, "padding": 1} | wanted))
    ours = nn.Conv2d(8, 16, 3, **({"bias": False, "padding": 1} | wanted))
    ours.load_state_dict(torchs.state_dict())
    quickened(ours)
    return ours.to(memory_format=torch.channels_last), torchs.to(memory_format=torch.channels_last)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Maps whose weights' gradients are taken by matrix products, of all that have 1152 / 64 places
    or fewer.
    """
    seen = list[tuple[int, ...]]()

    def noted(images: Tensor, *others: Any) -> Tensor:
        seen.append(tuple(images.shape[2:]))
        return weight_gradient(images, *others)

    monkeypatch.setattr(convolutions, "WEIGHTS_A_PLACE", 64)
    monkeypatch.setattr(convolutions, "weight_gradient", noted)
    return seen


def learnt(layer: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """What comes out, and both gradients of a loss."""
    images = images.clone(memory_format=torch.channels_last).requires_grad_()
    out = layer(images)
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), [images, layer.weight])]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "small"), [(1, True), (4, True), (9, False)])
def test_small_maps_alone_take_the_other_way_and_the_numbers_are_the_same(
    products: list[tuple[int, ...]], side: int, small: bool, stride: int
) -> None:
    ours, torchs = layers(stride=stride)
    images = normal(6, 8, side, side).float()
    for mine, theirs in zip(learnt(ours, images), learnt(torchs, images), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
        assert mine.stride() == theirs.stride()
    assert products == ([(side, side)] if small else [])


def test_half_precision_is_as_autocast_has_it(products: list[tuple[int, ...]]) -> None:
    ours, torchs = layers()
    images = normal(6, 8, 4, 4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, theirs = learnt(ours, images), learnt(torchs, images)
    assert [each.dtype for each in mine] == [torch.bfloat16, torch.float32, torch.float32]
    assert all(
        found.dtype == other.dtype
        and torch.allclose(found.float(), other.float(), rtol=0.02, atol=0.05)
        for found, other in zip(mine, theirs, strict=True)
    )
    assert len(products) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"bias": True},
        {"groups": 2},
        {"dilation": 2},
        {"padding": "same"},
        {"padding_mode": "reflect"},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_torch(
    products: list[tuple[int, ...]], wanted: dict[str, Any]
) -> None:
    ours, torchs = layers(**wanted)
    images = normal(2, 8, 4, 4).float()
    assert all(
        torch.equal(a, b) for a, b in zip(learnt(ours, images), learnt(torchs, images), strict=True)
    )
    assert products == []


def test_a_network_keeps_its_weights_names_and_numbers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Linear(4, 4)))
    before, names = network(torch.ones(1, 3, 6, 6)), list(network.state_dict())
    assert torch.equal(quickened(network)(torch.ones(1, 3, 6, 6)), before)
    assert list(network.state_dict()) == names
    assert [
        isinstance(layer, Convolution)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ] == [True] * 2
