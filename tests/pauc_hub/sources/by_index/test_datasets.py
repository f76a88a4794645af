"""Lists of paths and datasets by index: the pictures are theirs, and what is none is refused in one
line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.sources.datasets import open_images

Noise = Callable[..., Image.Image]


class Pictures:
    """A map-style dataset."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


@pytest.mark.parametrize(
    "form", [lambda p: p, lambda p: (p, 3), lambda p: {"label": 3, "image": p}]
)
def test_a_dataset_gives_its_pictures(form: Callable[[Image.Image], Any], noise: Noise) -> None:
    pictures = [noise(index) for index in range(11)]
    source = open_images(Pictures([form(picture) for picture in pictures]))
    assert len(source) == 11
    assert source.names[:2] == ["00", "01"]
    for index in (0, 10):
        assert np.array_equal(np.asarray(source.read(index)), np.asarray(pictures[index]))
    assert not source.has_place


def test_pictures_become_upright_rgb(noise: Noise) -> None:
    assert np.asarray(open_images(Pictures([noise(0).convert("L")])).read(0)).shape == (12, 16, 3)


def test_what_a_dataset_fails_at_is_unreadable(noise: Noise) -> None:
    source = open_images(Pictures([noise(0), ValueError("broken\nrecord"), "text", noise(3)]))
    assert [source.read(index) is None for index in range(4)] == [False, True, True, False]
    assert source.unreadable == {1: "broken record", 2: "the dataset gives no PIL image there"}


def test_a_list_of_paths_is_those_files(noise: Noise, tmp_path: Path) -> None:
    for index in range(3):
        noise(index).save(tmp_path / f"{index}.png")
    source = open_images([tmp_path / "2.png", str(tmp_path / "0.png")])
    assert source.names == [str(tmp_path / "2.png"), str(tmp_path / "0.png")]
    assert np.array_equal(np.asarray(source.read(1)), np.asarray(noise(0)))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], NoImages, "no images: the list is empty."),
        (
            iter("ab"),
            UsageError,
            (
                "images is a str_ascii_iterator, which cannot be read by index: "
                "give a folder, a list of paths or a map-style dataset."
            ),
        ),
        (["nowhere.png"], UsageError, "1 of 1 images are no files, such as 'nowhere.png'."),
        (
            Pictures([(np.zeros((2, 2, 3)), 1)]),
            UsageError,
            (
                "images[0] is a tuple that begins with a ndarray; training "
                "cuts its own views from PIL images: give the dataset without its transform, "
                "or a list of paths."
            ),
        ),
        (
            Pictures([{"text": "a"}]),
            UsageError,
            (
                "images[0] is a mapping of text without a PIL image; training "
                "cuts its own views from PIL images: give the dataset without its transform, "
                "or a list of paths."
            ),
        ),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    images: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refusal:
        open_images(images)
    assert str(refusal.value) == message
