"""Which images an exported file is compared on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.errors import NoImages
from pauc_hub.exporting import pictures
from pauc_hub.exporting.pictures import make_pictures, read_pictures
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.images.reading import PLAIN
from pauc_hub.sources import open_source

MODEL: Any = SimpleNamespace(preprocessing=Preprocessing(size=8, crop_pct=1.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five grey images, each lighter than the one before."""
    for row in range(5):
        Image.new("RGB", (9, 12), (50 * row,) * 3).save(tmp_path / f"{row}.png")
    return tmp_path


def test_images_are_squares_as_the_network_sees_them(folder: Path) -> None:
    found = read_pictures(open_source(folder), folder, MODEL, PLAIN)
    assert found.squares.shape == (5, 8, 8, 3)
    assert found.squares[:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]
    assert (found.source, found.unreadable) == (str(folder), 0)


def test_of_many_images_some_are_chosen_all_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST", 2)
    found = read_pictures(open_source(folder), folder, MODEL, PLAIN)
    # every third of five
    assert found.squares[:, 0, 0, 0].tolist() == [0, 150]


def test_unreadable_images_are_counted(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"no image")
    found = read_pictures(open_source(folder), folder, MODEL, PLAIN)
    assert (len(found.squares), found.unreadable) == (4, 1)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(
        NoImages, match=r"^none of the images in '.*' can be read\. Name others, images=FOLDER\.$"
    ):
        read_pictures(open_source(folder), folder, MODEL, PLAIN)


def test_made_pictures_are_the_same_always_and_differ() -> None:
    first, second = make_pictures(16), make_pictures(16)
    np.testing.assert_array_equal(first.squares, second.squares)
    assert first.source == ""
    assert (
        len(np.unique(first.squares.reshape(len(first.squares), -1), axis=0))
        == len(first.squares)
        == 32
    )
