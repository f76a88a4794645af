"""Backbones of many families: embeddings are what plain timm pools, from folders that timm saved. N
images, D width.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch.nn import functional as F

from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.files.checksums import file_sum
from pauc_hub.inference.folded_resnet import FoldedResNet
from pauc_hub.inference.model import Model, load

Picture = Callable[[int, int], Image.Image]

SIZES = [(64, 64), (97, 65), (300, 211), (71, 640)]


class Family(NamedTuple):
    architecture: str
    arguments: dict[str, Any]
    """That make the network small."""
    size: int
    """Side of the images it is tried with."""
    width: int


TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3}
FAMILIES = {
    "resnet, folded": Family("resnet18", {}, 64, 512),
    "resnet": Family("test_resnet", {}, 64, 96),
    "convnext": Family("test_convnext", {}, 64, 64),
    "efficientnet": Family("test_efficientnet", {}, 64, 256),
    "mobilenetv3": Family("mobilenetv3_small_050", {}, 64, 1024),
    "vit": Family("test_vit", {}, 160, 64),
    "dinov2 with registers": Family(
        "vit_small_patch14_reg4_dinov2", TINY | {"img_size": 56}, 56, 48
    ),
    "swin": Family(
        "swin_tiny_patch4_window7_224",
        {"img_size": 56, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
        56,
        128,
    ),
    "naflex": Family("naflexvit_base_patch16_gap", TINY, 64, 48),
}
# docs/models.md; the smallest of the cosines with fp32
BF16 = 0.9995


def make(folder: Path, family: Family, **more: Any) -> Path:
    """Random weights that are nowhere 0 or 1, and batch norms that have seen something; saved by
    timm itself.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(
            family.architecture, pretrained=False, **(family.arguments | more)
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
            for _ in range(3):
                network(torch.randn(4, 3, family.size, family.size))
    timm.models.save_for_hf(network, str(folder), safe_serialization=True)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("models") / "saved", family)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> list[Path]:
    root = tmp_path_factory.mktemp("photos")
    for width, height in SIZES:
        picture(width, height).save(root / f"{width}x{height}.png")
    return sorted(root.iterdir())


@pytest.fixture(scope="module")
def exact(folder: Path, family: Family) -> Model:
    return load(folder, device="cpu", precision="fp32", image_size=family.size)


@torch.inference_mode()
def pooled_by_timm(
    folder: Path, photos: list[Path], size: int, **options: Any
) -> npt.NDArray[np.float32]:
    """What a user of timm writes."""
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, **options).eval()
    config = resolve_model_data_config(network) | {"input_size": (3, size, size)}  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    rows = []
    for path in photos:
        with Image.open(path) as image:
            features = network.forward_features(transform(image.convert("RGB"))[None])
            rows.append(network.forward_head(features, pre_logits=True)[0])
    return torch.stack(rows).numpy()


def test_fp32_equals_timms_pooled_features(
    exact: Model, folder: Path, family: Family, photos: list[Path]
) -> None:
    learnt_positions = "img_size" in json.loads((folder / "config.json").read_text()).get(
        "model_args", {}
    )
    expected = pooled_by_timm(
        folder, photos, family.size, **({"img_size": family.size} if learnt_positions else {})
    )
    # equal, and not because all is nothing
    assert expected.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(exact.embed(photos), expected, rtol=0, atol=1e-5)


def test_the_width_is_the_networks(exact: Model, family: Family) -> None:
    assert exact.width == exact.width_in("backbone") == family.width
    assert exact.encode(torch.zeros(1, family.size, family.size, 3, dtype=torch.uint8)).shape == (
        1,
        family.width,
    )


def test_bf16_is_as_near_as_the_documents_say(exact: Model, folder: Path, family: Family) -> None:
    rough = load(folder, device="cpu", precision="bf16", image_size=family.size)
    shape = (8, family.size, family.size, 3)
    squares = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    apart = F.cosine_similarity(rough.encode(squares), exact.encode(squares))
    assert apart.min() >= BF16
    assert not torch.equal(rough.encode(squares), exact.encode(squares))


def test_its_backbone_is_timms_without_a_classifier(exact: Model, family: Family) -> None:
    squares = torch.randint(0, 256, (2, family.size, family.size, 3), dtype=torch.uint8)
    features = exact.backbone(exact.preprocessing.normalise(squares))
    assert torch.allclose(features, exact.encode(squares), atol=1e-5)


def test_only_a_plain_resnet_runs_folded(exact: Model, family: Family, tmp_path: Path) -> None:
    assert isinstance(exact.network, FoldedResNet) == (family.architecture == "resnet18")
    if family.architecture == "resnet18":
        pooled_otherwise = make(tmp_path / "max", family, global_pool="max")
        assert not isinstance(load(pooled_otherwise, device="cpu").network, FoldedResNet)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that timm saved, of a ViT for 160 pixels with patches of 16."""
    return make(tmp_path / "saved", FAMILIES["vit"])


def test_the_preprocessing_is_timms(saved: Path) -> None:
    network = timm.create_model(f"local-dir:{saved}", pretrained=True)
    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    ours = load(saved, device="cpu").preprocessing.to_config()
    assert json.loads(json.dumps(ours)) == json.loads(json.dumps(config))


def test_the_weights_are_known_by_their_sha256(saved: Path) -> None:
    assert load(saved, device="cpu").weights_sha256 == file_sum(saved / "model.safetensors")


@pytest.mark.parametrize("half", [False, True])
def test_pickled_and_half_weights_are_read(saved: Path, half: bool) -> None:
    """Pickled is what save_for_hf writes unless told otherwise."""
    squares = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    before = load(saved, device="cpu", precision="fp32")
    tensors = before.folder.read_backbone()
    (saved / "model.safetensors").unlink()
    torch.save(
        {k: v.half() if half else v for k, v in tensors.items()}, saved / "pytorch_model.bin"
    )
    after = load(saved, device="cpu", precision="fp32")
    assert after.weights_sha256 == file_sum(saved / "pytorch_model.bin") != before.weights_sha256
    assert torch.allclose(
        after.encode(squares), before.encode(squares), atol=1e-2 if half else 1e-6
    )


def test_pickles_of_anything_but_weights_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    torch.save({"code": print}, saved / "pytorch_model.bin")
    with pytest.raises(ModelFolderError) as refusal:
        load(saved, device="cpu")
    assert "Unsupported globals: builtins.print" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kept", [0, 1000])
def test_cut_off_weights_are_refused_in_one_line(saved: Path, kept: int) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(
        ModelFolderError, match=r"^the weights in '.*saved' do not fit its test_vit \(.*\)\.$"
    ):
        load(saved, device="cpu")


def test_another_size_of_images_is_timms_own(saved: Path, photos: list[Path]) -> None:
    model = load(saved, device="cpu", precision="fp32", image_size=64)
    assert (model.preprocessing.size, model.preprocessing.crop_pct) == (64, 0.95)
    np.testing.assert_allclose(
        model.embed(photos), pooled_by_timm(saved, photos, 64, img_size=64), rtol=0, atol=1e-5
    )
    squares = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert torch.allclose(
        model.backbone(model.preprocessing.normalise(squares)), model.encode(squares), atol=1e-5
    )


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "image_size=0 is not a positive number of pixels."),
        (7, "image_size=7 is no multiple of the network's patches of 16 pixels: use 16."),
        (
            100,
            "image_size=100 is no multiple of the network's patches of 16 pixels: use 96 or 112.",
        ),
    ],
)
def test_sizes_that_the_network_does_not_take_are_refused(
    saved: Path, size: int, message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        load(saved, device="cpu", image_size=size)
    assert str(refusal.value) == message


FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["ViTModel"], "pretrained_cfg": {}}, "names no architecture of timm's."),
    ({"architecture": "test_vit", "pretrained_cfg": 3}, "names no architecture of timm's."),
    (
        {"architecture": "nothing", "pretrained_cfg": {}},
        "is of an architecture unknown to timm: 'nothing'.",
    ),
    ({"architecture": "test_vit", "pretrained_cfg": {"nonsense": 1}}, "do not fit its test_vit ("),
    (
        {"architecture": "test_resnet", "pretrained_cfg": {"num_classes": 0}},
        "do not fit its test_resnet (",
    ),
]


@pytest.mark.parametrize(("config", "message"), FOREIGN)
def test_configurations_of_something_else_are_refused(
    saved: Path, config: dict[str, Any], message: str
) -> None:
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFolderError) as refusal:
        load(saved, device="cpu")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_configuration_of_one_level_is_read(saved: Path) -> None:
    """As timm wrote it long ago."""
    config = json.loads((saved / "config.json").read_text())
    flat = {"architecture": config["architecture"], "num_features": 64} | config["pretrained_cfg"]
    (saved / "config.json").write_text(json.dumps(flat))
    assert load(saved, device="cpu").preprocessing.size == 160
