"""A loaded model: its spaces, its numbers against plain torch, and what it refuses."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import pauc_hub
from pauc_hub.errors import ModelFolderError, Note, UnknownModel, UsageError
from pauc_hub.inference.folded_resnet import FoldedResNet
from pauc_hub.inference.model import Model, load
from pauc_hub.models.bundled import bundled_folder


def copy_with(folder: Path, path: Path, **changes: Any) -> Path:
    """The model folder with other values in its config.json."""
    shutil.copytree(folder, path)
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(config))
    lines = (path / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    lines = [f"{digest}  config.json" if line.endswith("  config.json") else line for line in lines]
    (path / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load(model_folder, device="cpu", precision="fp32")


@pytest.fixture
def squares() -> torch.Tensor:
    return torch.randint(
        0, 256, (5, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_knows_what_it_is(model: Model, model_folder: Path) -> None:
    assert (model.name, model.width, model.precision, str(model.device)) == (
        "tiny",
        96,
        "fp32",
        "cpu",
    )
    assert (model.preprocessing.size, model.preprocessing.crop_pct) == (64, 0.9)
    assert f"{model.weights_sha256}  model.safetensors" in (model_folder / "SHA256SUMS").read_text()
    assert [clustering.centroids.shape for clustering in model.prototypes] == [(4, 16)]


def test_is_ready_for_evaluation_and_not_for_training(model: Model) -> None:
    assert not model.backbone.training
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_a_folder_without_receipts_gives_the_model_its_name(
    headless_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_with(headless_folder, tmp_path / "nameless")
    (folder / "facts.json").unlink()
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if "facts.json" not in line))
    monkeypatch.chdir(folder)
    assert load(".", device="cpu").name == "nameless"


def test_backbone_space_is_the_network_on_normalised_pixels(
    model: Model, squares: torch.Tensor
) -> None:
    pixels = (
        squares.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    ) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.allclose(model.encode(squares), model.backbone(pixels), atol=1e-5)


def test_projection_space_is_the_unit_length_head_on_the_backbone(
    model: Model, squares: torch.Tensor
) -> None:
    assert model.projector is not None
    hidden = F.relu(model.projector.hidden(model.encode(squares)))
    expected = F.normalize(model.projector.output(hidden), dim=1)
    projections = model.encode(squares, "projection")
    assert torch.allclose(projections, expected, atol=1e-6)
    assert torch.allclose(projections.norm(dim=1), torch.ones(5), atol=1e-6)
    assert (model.width_in("backbone"), model.width_in("projection")) == (96, 16)


def test_bf16_is_near_fp32_and_still_gives_float32(
    model: Model, model_folder: Path, squares: torch.Tensor
) -> None:
    rough = load(model_folder, device="cpu", precision="bf16")
    embeddings = rough.encode(squares)
    assert rough.precision == "bf16"
    assert embeddings.dtype == torch.float32
    assert not torch.equal(embeddings, model.encode(squares))
    assert F.cosine_similarity(embeddings, model.encode(squares)).min() > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("space", ["backbone", "projection"])
def test_the_gpu_gives_what_the_cpu_does(
    model: Model, model_folder: Path, squares: torch.Tensor, space: str
) -> None:
    # convolutions in TF32, torch's own default
    fast = load(model_folder, device="cuda", precision="fp32")
    assert (
        F.cosine_similarity(fast.encode(squares, space).cpu(), model.encode(squares, space)).min()
        > 0.9999
    )


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_embeddings_do_not_depend_on_the_batch(
    model: Model, squares: torch.Tensor, batch_size: int
) -> None:
    arrays = [square.numpy() for square in squares]
    together = model.embed(arrays, batch_size=64)
    assert together.shape == (5, 96)
    assert np.allclose(model.embed(arrays, batch_size=batch_size), together, atol=1e-5)


def test_one_image_alone_is_one_row(model: Model, tmp_path: Path) -> None:
    image = Image.new("RGB", (90, 70), "teal")
    image.save(tmp_path / "x.png")
    rows = [
        model.embed(one)
        for one in (image, tmp_path / "x.png", str(tmp_path / "x.png"), np.asarray(image))
    ]
    assert [row.shape for row in rows] == [(1, 96)] * 4
    assert all(np.array_equal(row, rows[0]) for row in rows)


def test_a_stack_of_arrays_is_many_images(model: Model) -> None:
    assert model.embed(np.zeros((3, 64, 64, 3), np.uint8)).shape == (3, 96)
    assert model.embed([]).shape == (0, 96)


def test_images_that_lose_their_levels_of_grey_are_noted(model: Model) -> None:
    twelve_bits = np.linspace(0, 4095, 80 * 80).reshape(80, 80).astype(np.uint16)
    with pytest.warns(
        Note, match=r"^image 0 ends in few levels of grey: does its value range fit\?$"
    ):
        model.embed([twelve_bits])
    model.embed([twelve_bits], value_range=(0.0, 4095.0))


def test_spaces_that_are_not_there_are_refused(model: Model, headless_folder: Path) -> None:
    headless = load(headless_folder, device="cpu")
    assert headless.prototypes == ()
    for refuser, space, message in [
        (headless, "projection", "model 'tiny' has no projection head. Use the backbone space."),
        (model, "pixels", "unknown space 'pixels'. Use one of backbone, projection."),
    ]:
        with pytest.raises(UsageError) as refusal:
            refuser.embed(Image.new("RGB", (9, 9)), space=space)
        assert str(refusal.value) == message


def test_a_folder_of_images_is_sent_to_the_command_line(model: Model, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"is a folder, not an image\. For folders there is `pauc embed "
    ):
        model.embed(tmp_path)


@pytest.mark.parametrize(
    "architecture", ["hf-hub:someone/something", "resnet18000", "local-dir:/tmp"]
)
def test_architectures_unknown_to_timm_are_refused_and_never_fetched(
    model_folder: Path, tmp_path: Path, architecture: str
) -> None:
    folder = copy_with(model_folder, tmp_path / "m", architecture=architecture)
    with pytest.raises(
        ModelFolderError, match=f"is of an architecture unknown to timm: '{architecture}'"
    ):
        load(folder)


def test_weights_of_another_network_are_refused_in_one_line(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = copy_with(model_folder, tmp_path / "m", architecture="resnet10t")
    with pytest.raises(ModelFolderError) as refusal:
        load(folder, device="cpu")
    assert str(refusal.value).startswith(f"the weights in '{folder}' do not fit its resnet10t (")
    assert len(str(refusal.value).splitlines()) == 1


def test_unknown_models_and_devices_are_refused(model_folder: Path) -> None:
    with pytest.raises(UnknownModel, match="Did you mean 'pauc_resnet18"):
        load("pauc_resnet1")
    with pytest.raises(UsageError, match=r"^device=toaster cannot be used here"):
        load(model_folder, device="toaster")
    with pytest.raises(UsageError, match=r"^unknown precision 'fp64'"):
        load(model_folder, precision="fp64")


@pytest.fixture(scope="module")
def bundled() -> dict[str, Model]:
    folder = bundled_folder("pauc_resnet18")
    assert folder is not None
    return {
        precision: load(folder, device="cpu", precision=precision) for precision in ("fp32", "bf16")
    }


def test_a_stock_resnet_runs_folded_and_its_backbone_is_still_timms(
    bundled: dict[str, Model],
) -> None:
    model = bundled["fp32"]
    squares = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    assert type(model.network) is FoldedResNet
    assert "backbone" not in vars(model)  # built when it is asked for, since that takes timm
    assert type(model.backbone).__module__ == "timm.models.resnet"
    assert model.backbone is model.backbone
    expected = model.backbone(model.preprocessing.normalise(squares))
    assert torch.allclose(model.encode(squares), expected, atol=1e-5)


def test_the_backbone_is_a_copy(bundled: dict[str, Model]) -> None:
    squares = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    before = bundled["bf16"].encode(squares)
    torch.nn.init.zeros_(bundled["bf16"].backbone.get_parameter("conv1.weight"))
    assert torch.equal(bundled["bf16"].encode(squares), before)


def test_bf16_of_the_bundled_weights_is_as_near_as_the_documents_say(
    bundled: dict[str, Model], picture: Callable[[int, int], Image.Image]
) -> None:
    """Cosine of at least 0.9995, docs/embedding.md."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    images = [*(picture(90 + 7 * i, 120 - 5 * i) for i in range(16)), *noise]
    rough, exact = (
        torch.from_numpy(bundled[precision].embed(images)) for precision in ("bf16", "fp32")
    )
    assert not torch.equal(rough, exact)
    assert F.cosine_similarity(rough, exact).min() >= 0.9995


def test_weights_that_do_not_fit_a_stock_resnet_are_refused_in_one_line(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = copy_with(model_folder, tmp_path / "m", architecture="resnet50")
    with pytest.raises(ModelFolderError, match="do not fit its resnet50 ") as refusal:
        load(folder, device="cpu")
    assert len(str(refusal.value).splitlines()) == 1


def test_the_bundled_model_answers_to_its_name() -> None:
    model = pauc_hub.load("pauc_resnet18")
    assert model.name.startswith("pauc_resnet18.")
    assert model.embed(np.zeros((64, 64, 3), np.uint8)).shape == (1, 512)
