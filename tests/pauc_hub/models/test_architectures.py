"""Networks with a stem for small images: what differs from timm's, and that nothing else does;
their model folders.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pauc_hub import load
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.folded_resnet import FoldedResNet
from pauc_hub.models.architectures import CIFAR, NETWORKS, STOCK
from pauc_hub.models.bundled import ARCHITECTURES
from pauc_hub.models.write_folder import write_folder

STEMS = [
    ("pauc_resnet18_cifar", "resnet18", 1),
    ("pauc_resnet18_cifar_pool", "resnet18", 2),
    ("pauc_resnet50_cifar", "resnet50", 1),
]


def create(name: str, **options: Any) -> Any:
    return timm.create_model(name, **options).eval()


def test_every_network_with_a_stem_of_ours_is_known_to_timm() -> None:
    assert {name for name in NETWORKS if name.startswith("pauc_")} <= ARCHITECTURES.keys()
    assert {name for name, network in NETWORKS.items() if network.stem != STOCK} == {
        name for name, _, _ in STEMS
    }


@pytest.mark.parametrize(("name", "stock", "reduction"), STEMS)
def test_behind_the_stem_all_is_timms_own(name: str, stock: str, reduction: int) -> None:
    ours, theirs = create(name), create(stock, num_classes=0)
    assert {
        key: value.shape for key, value in ours.state_dict().items() if key != "conv1.weight"
    } == {key: value.shape for key, value in theirs.state_dict().items() if key != "conv1.weight"}
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stem = nn.functional.relu(ours.bn1(nn.functional.conv2d(x, ours.conv1.weight, padding=1)))
    if reduction == 2:
        stem = nn.functional.max_pool2d(stem, 3, 2, 1)
    assert stem.shape[-1] == 32 // reduction
    theirs.load_state_dict(ours.state_dict() | {"conv1.weight": theirs.conv1.weight})
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        stem = stage(stem)
    assert torch.allclose(ours(x), stem.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize(("name", "_stock", "reduction"), STEMS)
def test_the_stages_tell_how_much_they_reduce(name: str, _stock: str, reduction: int) -> None:
    stages = create(name, features_only=True)
    maps = stages(torch.zeros(1, 3, 64, 64))
    assert (
        stages.feature_info.reduction()
        == [64 // each.shape[-1] for each in maps]
        == [1, *(reduction * 2**i for i in range(4))]
    )


def test_the_stem_begins_as_timms_do() -> None:
    """Kaiming's normal distribution over the fan-out, so that activations keep their size."""
    weight = create("pauc_resnet18_cifar").conv1.weight
    assert weight.shape == (64, 3, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert create("pauc_resnet18_cifar", in_chans=1)(torch.zeros(1, 1, 32, 32)).shape == (1, 512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights with the CIFAR stem."""
    torch.manual_seed(0)
    backbone = create("pauc_resnet18_cifar")
    assert NETWORKS["pauc_resnet18_cifar"].stem == CIFAR
    return write_folder(
        tmp_path_factory.mktemp("models") / "small",
        architecture="pauc_resnet18_cifar",
        backbone=backbone.state_dict(),
        num_features=512,
        preprocessing=Preprocessing(size=32, crop_pct=1.0).to_config(),
        pauc={},
        projector=None,
        prototypes=[],
        facts={},
        card="",
        half=False,
    )


def test_its_folder_embeds_with_our_network_as_with_timms(folder: Path) -> None:
    model = load(folder, device="cpu", precision="fp32")
    assert isinstance(model.network, FoldedResNet)
    squares = torch.randint(
        256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    expected = model.backbone(model.preprocessing.normalise(squares))
    assert torch.allclose(model.encode(squares), expected, atol=1e-5 * expected.abs().max().item())


def test_timm_reads_its_folder_with_this_package_alone(folder: Path) -> None:
    code = f"""
import timm
try:
    timm.create_model('local-dir:{folder}')
except RuntimeError as error:
    print(error)
import pauc_hub
print(timm.create_model('local-dir:{folder}', pretrained=True).conv1.kernel_size)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert found.stdout == "Unknown model (pauc_resnet18_cifar)\n(3, 3)\n", found.stderr
