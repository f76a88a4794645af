"""Small pictures that are known again by their pixels, in folders and tars; with fixtures that make
them.
"""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pauc_hub.sources.by_index import ImageSource, open_by_index


def noise(index: int, width: int = 16, height: int = 12) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


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


@pytest.fixture
def twelve(tmp_path: Path) -> ImageSource:
    """00.png to 11.png, of which 03 and 04 are no images."""
    files = {f"{i:02}.png": b"text" if i in (3, 4) else png(i) for i in range(12)}
    return open_by_index(write_files(tmp_path / "images", files), quiet=True)
