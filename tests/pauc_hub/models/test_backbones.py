"""What users of timm expect of a model, and what they are told where its weights are missing or
damaged.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from pauc_hub.errors import MissingWeights, ModelFolderError
from pauc_hub.models import backbones, bundled
from pauc_hub.models.folder import open_folder

TINY = "pauc_resnet18.tiny_imagenet"
BUNDLED = bundled.BUNDLED / TINY
STEM = "conv1.weight"
BARE = "pauc_resnet50_cifar"  # an architecture without weights


def create(name: str = "pauc_resnet18", **options: Any) -> Any:
    """Any, as timm's own models are to their users: attributes come and go with the options."""
    return timm.create_model(name, **options).eval()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return {
        name: t.float() if t.is_floating_point() else t
        for name, t in open_folder(BUNDLED).read_backbone().items()
    }


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def assert_holds(model: nn.Module, weights: dict[str, Tensor], *except_for: str) -> None:
    """Every one of the weights is in the model, those named aside."""
    found = model.state_dict()
    assert all(
        torch.equal(found[name], tensor)
        for name, tensor in weights.items()
        if name not in except_for
    )


def test_timm_lists_the_architectures_and_their_weights() -> None:
    assert timm.list_models("pauc*") == sorted(bundled.ARCHITECTURES)
    assert timm.list_models("pauc*", pretrained=True) == bundled.weights_names()
    assert TINY in bundled.weights_names()
    assert timm.list_models(module="backbones") == sorted(bundled.ARCHITECTURES)
    assert timm.is_model(BARE)
    assert timm.models.is_model_pretrained("pauc_resnet18")
    assert not timm.models.is_model_pretrained(BARE)


@pytest.mark.parametrize("name", ["pauc_resnet18", TINY])
def test_pretrained_loads_the_bundled_weights_in_full_precision(
    name: str, weights: dict[str, Tensor]
) -> None:
    model = create(name, pretrained=True)
    assert model.state_dict().keys() == weights.keys()
    assert_holds(model, weights)
    assert model.conv1.weight.dtype == torch.float32
    # what save_for_hf() writes, and plain timm loads
    assert model.pretrained_cfg["architecture"] == "resnet18"
    assert model.pretrained_cfg["tag"] == "tiny_imagenet"


def test_without_pretrained_the_weights_are_random(weights: dict[str, Tensor]) -> None:
    assert not torch.equal(create().conv1.weight, weights[STEM])


@pytest.mark.parametrize(
    ("name", "stock"), [("pauc_resnet18", "resnet18"), ("pauc_resnet50", "resnet50")]
)
def test_the_architectures_are_timms_own(name: str, stock: str, images: Tensor) -> None:
    ours, theirs = create(name), create(stock, num_classes=0)
    theirs.load_state_dict(ours.state_dict())
    assert ours.num_classes == 0
    assert ours.num_features == theirs.num_features
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_num_classes_adds_a_fresh_classifier(weights: dict[str, Tensor], images: Tensor) -> None:
    model = create(pretrained=True, num_classes=7)
    assert_holds(model, weights)
    assert model(images).shape == (2, 7)
    assert model.get_classifier().weight.shape == (7, 512)


def test_reset_classifier_adds_and_removes_one(images: Tensor) -> None:
    model = create(pretrained=True)
    features = model(images)
    model.reset_classifier(5)
    assert model(images).shape == (2, 5)
    model.reset_classifier(0)
    assert torch.equal(model(images), features)


@pytest.mark.parametrize("channels", [1, 4])
def test_in_chans_adapts_the_stem_as_timm_does(channels: int, weights: dict[str, Tensor]) -> None:
    model = create(pretrained=True, in_chans=channels)
    assert_holds(model, weights, STEM)
    summed = weights[STEM].sum(1, keepdim=True)
    repeated = torch.cat([weights[STEM], weights[STEM]], dim=1)[:, :channels] * (3 / channels)
    expected = summed if channels == 1 else repeated
    # timm adds up in the stored 16 bits
    assert torch.allclose(model.conv1.weight, expected, atol=2e-3)
    assert model(torch.zeros(2, channels, 64, 64)).shape == (2, 512)


def test_features_only_gives_the_pretrained_stages(images: Tensor) -> None:
    whole, stages = create(pretrained=True), create(pretrained=True, features_only=True)
    assert stages.feature_info.channels() == [64, 64, 128, 256, 512]
    assert stages.feature_info.reduction() == [2, 4, 8, 16, 32]
    with torch.no_grad():
        maps = stages(images)
        assert torch.allclose(maps[-1], whole.forward_features(images), atol=1e-6)
    assert [tuple(each.shape) for each in maps] == [
        (2, 64, 32, 32),
        (2, 64, 16, 16),
        (2, 128, 8, 8),
        (2, 256, 4, 4),
        (2, 512, 2, 2),
    ]


def test_features_only_takes_indices_and_channels(images: Tensor) -> None:
    stages = create(TINY, pretrained=True, features_only=True, out_indices=(1, 3), in_chans=1)
    assert [each.shape[1] for each in stages(images[:, :1])] == [64, 256]


@torch.no_grad()
def test_forward_is_head_of_features_and_pools_the_last_stage(images: Tensor) -> None:
    model = create(pretrained=True)
    maps = model.forward_features(images)
    assert maps.shape == (2, 512, 2, 2)
    assert torch.equal(model.forward_head(maps), model(images))
    assert torch.allclose(model(images), maps.mean((2, 3)), atol=1e-6)


@torch.no_grad()
def test_forward_intermediates_gives_the_stages_with_the_features(images: Tensor) -> None:
    model = create(pretrained=True)
    final, maps = model.forward_intermediates(images, indices=[2, 4])
    assert [each.shape[1] for each in maps] == [128, 512]
    assert torch.equal(final, model.forward_features(images))
    assert torch.equal(maps[-1], final)


def test_pooling_can_be_left_to_the_caller(images: Tensor) -> None:
    assert create(pretrained=True, global_pool="")(images).shape == (2, 512, 2, 2)


def test_the_data_config_is_that_of_the_folder() -> None:
    data: Any = timm.data  # untyped
    config = data.resolve_model_data_config(create(pretrained=True))
    stored = open_folder(BUNDLED).preprocessing_config
    expected = {key: stored[key] for key in ("crop_pct", "crop_mode", "interpolation")}
    assert config == expected | {key: tuple(stored[key]) for key in ("input_size", "mean", "std")}


def test_the_caller_may_bring_other_weights(tmp_path: Path) -> None:
    own = create(BARE).state_dict()
    safetensors.torch.save_file(own, tmp_path / "own.safetensors")
    for source in ({"file": str(tmp_path / "own.safetensors")}, {"state_dict": own}):
        assert_holds(create(BARE, pretrained=True, pretrained_cfg_overlay=source), own)


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"features_only": True}])
def test_an_architecture_without_weights_says_so(options: dict[str, Any]) -> None:
    with pytest.raises(MissingWeights) as error:
        create(BARE, pretrained=True, **options)
    assert str(error.value) == (
        f"there are no weights for {BARE} yet. Use pretrained=False for random ones, or a model "
        "that has some: "
        f"{', '.join(bundled.weights_names())}."
    )


def test_an_unknown_tag_is_timms_own_error() -> None:
    with pytest.raises(
        RuntimeError, match=r"Invalid pretrained tag \(imagenet\) for pauc_resnet18"
    ):
        create("pauc_resnet18.imagenet", pretrained=True)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled weights that may be damaged; the package takes it for its own."""
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path)
    shutil.copytree(BUNDLED, tmp_path / TINY)
    return tmp_path / TINY


def create_from(folder: Path, **options: Any) -> Any:
    cfg = backbones._default_cfgs()[folder.name]
    return create(pretrained=True, pretrained_cfg=cfg, **options)


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def test_an_undamaged_copy_loads(copied: Path, weights: dict[str, Tensor]) -> None:
    assert_holds(create_from(copied), weights)


@pytest.mark.parametrize(
    "options", [{}, {"num_classes": 3}, {"in_chans": 1}, {"features_only": True}]
)
def test_damaged_weights_are_refused_however_they_are_asked_for(
    copied: Path, options: dict[str, Any]
) -> None:
    flip_a_byte(copied / "model.safetensors")
    with pytest.raises(
        ModelFolderError, match=rf"^'{copied}/model\.safetensors' is damaged: its sha256 is "
    ):
        create_from(copied, **options)


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (truncate, "model.safetensors", r"model\.safetensors' is damaged"),
        (Path.unlink, "model.safetensors", r"it has no model\.safetensors\."),
        (Path.unlink, "SHA256SUMS", r"it has no SHA256SUMS\."),
        (flip_a_byte, "config.json", r"config\.json' is damaged"),
        (Path.unlink, "config.json", r"it has no config\.json\."),
    ],
)
def test_a_damaged_folder_lets_timm_import_and_is_refused_when_asked_for(
    copied: Path, damage: Callable[[Path], object], name: str, message: str
) -> None:
    damage(copied / name)
    assert backbones._default_cfgs()[TINY]
    with pytest.raises(ModelFolderError, match=message):
        create_from(copied)


def test_plain_timm_loads_the_folder_without_this_package(images: Tensor, tmp_path: Path) -> None:
    safetensors.torch.save_file({"images": images}, tmp_path / "images.safetensors")
    code = f"""
import sys, safetensors.torch, timm, torch
model = timm.create_model("local-dir:{BUNDLED}", pretrained=True).eval()
images = safetensors.torch.load_file("images.safetensors")["images"]
with torch.no_grad():
    safetensors.torch.save_file({{"features": model(images)}}, "features.safetensors")
assert timm.data.resolve_model_data_config(model)["input_size"] == [3, 64, 64]
assert not any(name.startswith("pauc") for name in sys.modules)
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, timeout=600
    )
    features = safetensors.torch.load_file(tmp_path / "features.safetensors")["features"]
    with torch.no_grad():
        assert torch.allclose(features, create(pretrained=True)(images), atol=1e-6)


def test_the_bundled_folder_is_whole() -> None:
    folder = open_folder(BUNDLED)
    folder.verify()
    assert folder.architecture == "resnet18"
    assert folder.num_features == 512
    assert folder.facts["name"] == TINY
    assert {path.name for path in BUNDLED.iterdir()} == {*folder.sums, "SHA256SUMS"}
    for prototypes, clusters in zip(folder.read_prototypes(), folder.pauc["clusters"], strict=True):
        assert 1 < len(prototypes.centroids) <= clusters  # the empty ones are left out
        assert prototypes.centroids.shape[1] == folder.pauc["dim"]


def test_save_for_hf_writes_a_folder_that_plain_timm_loads(tmp_path: Path, images: Tensor) -> None:
    model = create(pretrained=True)
    save_for_hf(model, str(tmp_path / "saved"))
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architecture"] == "resnet18"
    assert config["pretrained_cfg"]["pool_size"] == [2, 2]
    again = timm.create_model(
        f"local-dir:{tmp_path / 'saved'}", pretrained=True, num_classes=0
    ).eval()
    torch.testing.assert_close(again(images), model(images))


@pytest.mark.parametrize("name", bundled.ARCHITECTURES)
def test_every_cfg_has_licence_papers_and_the_size_of_the_last_map(name: str) -> None:
    model = create(name)
    cfg = model.pretrained_cfg
    assert cfg["license"]
    assert cfg["paper_ids"] == ("arXiv:2210.10194", "arXiv:2005.04966")
    with torch.no_grad():
        assert (
            model.forward_features(torch.zeros(1, *cfg["input_size"])).shape[-2:]
            == cfg["pool_size"]
        )
