"""Embeddings are what plain timm gives for the same weights under timm's own evaluation transform,
to 1e-5 in fp32.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from pauc_hub.cli import run
from pauc_hub.inference.model import load
from pauc_hub.models.bundled import bundled_folder
from pauc_hub.tables.stored import read_table

SIZES = [
    (64, 64),
    (65, 97),
    (97, 65),
    (300, 211),
    (211, 300),
    (40, 31),
    (640, 71),
    (71, 640),
    (512, 512),
]


@pytest.fixture(scope="module")
def photos(
    tmp_path_factory: pytest.TempPathFactory, picture: Callable[[int, int], Image.Image]
) -> Path:
    """Each size as JPEG and as PNG, upright, RGB."""
    root = tmp_path_factory.mktemp("photos")
    for width, height in SIZES:
        picture(width, height).save(root / f"{width}x{height}.jpg", quality=90)
        picture(height, width).save(root / f"{width}x{height}.png")
    return root


@torch.inference_mode()
def embed_with_timm(folder: Path, photos: Path) -> npt.NDArray[np.float32]:
    """What a timm user writes, without any of this package."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(network), is_training=False)  # type: ignore[no-untyped-call]
    rows = []
    for path in sorted(photos.iterdir()):
        with Image.open(path) as image:
            rows.append(network(transform(image.convert("RGB"))[None])[0])
    return torch.stack(rows).numpy()


@pytest.fixture(scope="module", params=["tiny", "bundled"])
def folder(request: pytest.FixtureRequest, model_folder: Path) -> Path:
    return (
        bundled_folder("pauc_resnet18") if request.param == "bundled" else model_folder
    ) or Path()


def test_the_table_of_the_command(folder: Path, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    fp32 = ["--precision", "fp32", "--device", "cpu", "--quiet"]
    assert (
        run(["embed", str(photos), "-m", str(folder), "-o", str(table), "--batch-size", "7", *fp32])
        == 0
    )
    embeddings = read_table(table).embeddings
    assert embeddings.std(axis=0).max() > 1e-2  # equal, and not because all is nothing
    np.testing.assert_allclose(embeddings, embed_with_timm(folder, photos), rtol=0, atol=1e-5)


def test_the_array_of_the_library(folder: Path, photos: Path) -> None:
    embeddings = load(folder, device="cpu", precision="fp32").embed(sorted(photos.iterdir()))
    np.testing.assert_allclose(embeddings, embed_with_timm(folder, photos), rtol=0, atol=1e-5)
