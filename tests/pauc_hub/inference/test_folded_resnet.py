"""The folded network against timm's own, whose weights it has: every stock architecture, fused and
plain.
"""

from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn

from pauc_hub.inference import folded_resnet
from pauc_hub.inference.folded_resnet import HAS_ONEDNN, build_network, can_fuse, fold_batch_norm
from pauc_hub.models.architectures import NETWORKS


@pytest.fixture(scope="module", autouse=True)
def _deterministic() -> Iterator[None]:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        yield


def untrained(architecture: str) -> nn.Module:
    """timm's network, with batch norms that change something."""
    backbone = timm.create_model(architecture, pretrained=False, num_classes=0).eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return backbone


def assert_near(features: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest feature."""
    assert features.shape == expected.shape
    assert features.dtype == torch.float32
    assert (features - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("fuses", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_gives_the_features_of_timm(
    architecture: str, fuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, pixels = untrained(architecture), torch.randn(3, 3, 65, 65)
    given = pixels.clone()
    if not fuses:
        monkeypatch.setattr(folded_resnet, "can_fuse", lambda x: False)
    folded = build_network(architecture, backbone.state_dict(), torch.float32)
    assert_near(folded(given), backbone(pixels), 1e-5)
    assert torch.equal(given, pixels)  # what is done in place is never done to the input


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_bf16_is_near(architecture: str) -> None:
    backbone, pixels = untrained(architecture), torch.randn(4, 3, 64, 64)
    folded = build_network(architecture, backbone.state_dict(), torch.bfloat16)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.bfloat16}
    assert_near(folded(pixels), backbone(pixels), 0.05)
    assert nn.functional.cosine_similarity(folded(pixels), backbone(pixels)).min() > 0.999


def test_is_for_inference_and_lies_channels_last() -> None:
    folded = build_network("resnet18", untrained("resnet18").state_dict(), torch.float32)
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(
        parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in folded.parameters()
        if parameter.ndim == 4
    )


def test_folding_by_hand() -> None:
    """Two channels: 2 (w x - 1) / sqrt(4) + 3 and 5 (w x - 0) / sqrt(1) + 0, with w = 7 and 11."""
    tensors = {
        "conv1.weight": torch.tensor([7.0, 11.0]).reshape(2, 1, 1, 1),
        "bn1.weight": torch.tensor([2.0, 5.0]),
        "bn1.bias": torch.tensor([3.0, 0.0]),
        "bn1.running_mean": torch.tensor([1.0, 0.0]),
        "bn1.running_var": torch.tensor([4.0, 1.0]) - 1e-5,
        "bn1.num_batches_tracked": torch.tensor(9),
    }
    folded = fold_batch_norm(tensors)
    assert folded.keys() == {"conv1.weight", "conv1.bias"}
    torch.testing.assert_close(folded["conv1.weight"].flatten(), torch.tensor([7.0, 55.0]))
    torch.testing.assert_close(folded["conv1.bias"], torch.tensor([2.0, 0.0]))


def test_half_precision_weights_lose_nothing_more_by_folding() -> None:
    backbone = untrained("resnet18").half()
    pixels = torch.randn(2, 3, 64, 64)
    folded = build_network("resnet18", backbone.state_dict(), torch.float32)
    assert_near(folded(pixels), backbone.float()(pixels), 1e-5)


@pytest.mark.parametrize("change", ["missing", "additional", "other shape", "norm missing"])
def test_weights_of_another_network_are_refused(change: str) -> None:
    tensors = dict(untrained("resnet18").state_dict())
    match change:
        case "missing":
            del tensors["layer4.1.conv2.weight"]
        case "additional":
            tensors["fc.weight"] = torch.zeros(10, 512)
        case "other shape":
            tensors["conv1.weight"] = torch.zeros(64, 3, 3, 3)
        case _:
            del tensors["layer4.1.bn2.running_var"]
    with pytest.raises(RuntimeError):
        build_network("resnet18", tensors, torch.float32)


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")
def test_this_torch_still_has_the_private_operators_that_make_it_quick() -> None:
    assert can_fuse(torch.zeros(1))
    assert not can_fuse(torch.zeros(1, dtype=torch.float16))
    assert not can_fuse(torch.zeros(1, device="meta"))
