"""Shared by the tests of training: small pictures, folders and tars of them, and batches as they are drawn."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource, open_source
from pauc_hub.training.data.views import Batch, draw_views


def noise(index: int, width: int = 16, height: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(index: int, width: int = 16, height: int = 12) -> bytes:
    file = io.BytesIO()
    noise(index, width, height).save(file, "PNG")
    return file.getvalue()


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is a parameter here
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def drawn(indices: Sequence[int], size: int = 8, seed: int = 0, **settings: object) -> Batch:
    config, draws = Config(size=size, **settings), torch.Generator().manual_seed(seed)  # type: ignore[arg-type]
    views = [draw_views(config, len(indices), draws, small=i >= 2) for i in range(2 + config.small_views)]
    return Batch(torch.tensor(indices, dtype=torch.int64), tuple(views))


@pytest.fixture(scope="session", name="noise")
def _noise() -> Callable[..., Image.Image]:
    """Makes pictures that are known again by their pixels, a different one for each index."""
    return noise


@pytest.fixture(scope="session", name="png")
def _png() -> Callable[..., bytes]:
    """The same as files."""
    return png


@pytest.fixture(scope="session", name="write_files")
def _write_files() -> Callable[..., Path]:
    return write_files


@pytest.fixture(scope="session", name="write_tar")
def _write_tar() -> Callable[..., Path]:
    return write_tar


@pytest.fixture(scope="session", name="drawn")
def _drawn() -> Callable[..., Batch]:
    """Makes a batch of some images with draws of its own."""
    return drawn


@pytest.fixture
def twelve(tmp_path: Path) -> ImageSource:
    """00.png to 11.png, of which 03 and 04 are no images."""
    files = {f"{i:02}.png": b"text" if i in (3, 4) else png(i) for i in range(12)}
    return open_source(write_files(tmp_path / "images", files), quiet=True)
