"""Shared by the tests of embedding: a folder of images of one colour each."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images of one colour each, (10 i, 0, 0), and sizes of their own; two more files cannot
    be read.
    """
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(7):
        Image.new("RGB", (20 + i, 30), (10 * i, 0, 0)).save(
            root / ("sub" if i % 2 else ".") / f"{i}.png"
        )
    (root / "2b.jpg").write_bytes(b"")
    (root / "sub" / "z.png").write_text("text")
    return root


@pytest.fixture
def encoder(mean_colour: Any) -> Any:
    """Its embedding of an image is the mean colour."""
    return mean_colour()
