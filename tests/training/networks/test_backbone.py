"""Any network of timm's: batch norm in groups computes what it did, widths are the networks' own,
misfits are named.
"""

import copy
from typing import Any, cast

import pytest
import timm
import tiny_swin
import torch
from torch import nn

from pauc_hub.errors import UsageError
from pauc_hub.training.networks.backbone import (
    build_backbone,
    build_options,
    fitting_side,
    has_batch_norm,
    inspect_backbone,
)
from pauc_hub.training.networks.encoder import Encoder, MomentumPair
from pauc_hub.training.networks.norms import (
    GroupedBatchNorm,
    GroupedBatchNormAct,
    group_batch_norms,
)

SIDE = 64
assert timm.is_model("test_swin"), tiny_swin.__doc__
FAMILIES = {  # architecture: batch norms, width
    "test_resnet": (15, 96),
    "test_convnext": (0, 64),
    "test_efficientnet": (13, 256),
    "mobilenetv3_small_050": (34, 1024),
    "test_vit": (0, 64),
    "test_swin": (0, 32),
    "test_byobnet": (14, 256),
}


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def random_statistics(network: nn.Module) -> None:
    draws = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=draws))
            layer.running_var.copy_(torch.rand(layer.num_features, generator=draws) + 0.5)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_in_evaluation_the_network_computes_what_timms_does(architecture: str) -> None:
    norms, width = FAMILIES[architecture]
    torch.manual_seed(0)
    plain = build_backbone(architecture, SIDE).eval()
    random_statistics(plain)
    grouped = group_batch_norms(copy.deepcopy(plain), 2)
    found = [layer for layer in grouped.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(found) == norms
    assert all(isinstance(layer, GroupedBatchNorm) and layer.group == 2 for layer in found)
    assert grouped.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        expected = plain(images(3))
        assert expected.shape == (3, width)
        assert torch.equal(grouped(images(3)), expected)
    assert inspect_backbone(architecture, SIDE)[:2] == (width, norms > 0)


def test_learning_in_groups_activations_stay_and_statistics_are_the_groups_own() -> None:
    torch.manual_seed(0)
    plain = build_backbone("test_efficientnet", SIDE)
    grouped = group_batch_norms(copy.deepcopy(plain), 2)
    assert any(isinstance(layer, GroupedBatchNormAct) for layer in grouped.modules())
    x = images(4)
    assert torch.allclose(grouped(x), torch.cat([plain(x[:2]), plain(x[2:])]), atol=1e-5)
    assert not torch.allclose(grouped(x), plain(x), atol=1e-3)


def test_only_batch_norm_shuffles_and_divides() -> None:
    pair = MomentumPair("test_vit", 8, queue=12, group=32, parts=3, size=SIDE)
    q, k = pair.queries(images(5)), pair.keys(images(5), torch.Generator())
    assert (pair.has_batch_norm, pair.group) == (False, 1)
    # equal encoders, and no batch mates that could make a difference
    assert torch.allclose(q, k, atol=1e-5)
    assert MomentumPair("test_resnet", 8, queue=12, group=32).has_batch_norm


def test_nothing_is_random_within() -> None:
    """Swin's stochastic depth would make a resumed run another."""
    torch.manual_seed(0)
    encoder = Encoder("test_swin", 8, size=SIDE)
    assert torch.equal(encoder(images(8)), encoder(images(8)))


def test_the_size_of_the_views_is_built_in_where_it_has_to_be() -> None:
    assert cast(torch.Tensor, build_backbone("test_vit", 96).pos_embed).shape[1] == 1 + 6 * 6
    assert inspect_backbone("test_vit", 96).fixed_size
    assert not inspect_backbone("test_resnet", 96).fixed_size


def test_what_is_kept_for_the_gradient_grows_with_the_views_and_no_weights_count() -> None:
    small, large = (inspect_backbone("test_resnet", size).kept for size in (32, 64))
    assert 3.5 < large / small < 4.5
    network, kept = build_backbone("test_resnet", 64), dict[int, int]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _held = network(torch.zeros(2, 3, 64, 64))
    assert large == pytest.approx(sum(kept.values()) / 2, rel=0.05)


REFUSED: list[tuple[str, int, str]] = [
    (
        "test_vitt",
        64,
        "architecture='test_vitt' is no network of timm's (did you mean 'test_vit'?)",
    ),
    (
        "resnet50.a1_in1k",
        64,
        (
            "architecture='resnet50.a1_in1k' names the weights 'a1_in1k', and a new network has "
            "none: give 'resnet50'"
        ),
    ),
    ("test_vit", 50, "size=50 is no multiple of the network's patches of 16 pixels: use 48 or 64"),
]


@pytest.mark.parametrize(("architecture", "size", "message"), REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(
    architecture: str, size: int, message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        build_backbone(architecture, size)
    assert str(refusal.value) == message


def test_a_size_that_cannot_be_set_is_refused_with_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stubborn(name: str, **options: Any) -> nn.Module:
        if options.get("img_size"):
            raise TypeError("__init__() got an unexpected keyword argument 'img_size'")
        return plain(name, **options)

    plain = timm.create_model
    monkeypatch.setattr(timm, "create_model", stubborn)
    refusal = (
        r"^architecture='deit_tiny_patch16_224' does not take views of size=96 \(.*\): "
        r"its usual size is 224$"
    )
    with pytest.raises(UsageError, match=refusal):
        build_backbone("deit_tiny_patch16_224", 96)
    assert build_options("deit_tiny_patch16_224", 96) == {}


def test_a_side_that_fits_is_the_nearest_of_whole_patches() -> None:
    assert fitting_side("test_vit", 64) == 64
    assert fitting_side("test_vit", 70) == 64
    assert fitting_side("test_vit", 8) == 16
    assert fitting_side("no_such_network", 64) == 64


def test_batch_norm_is_known_without_a_network() -> None:
    assert has_batch_norm("resnet50", 224)
    assert has_batch_norm("no_such_network", 224)
    assert not has_batch_norm("test_convnext", 64)
