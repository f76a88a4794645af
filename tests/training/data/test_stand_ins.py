"""What stands in for images that cannot be read."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pauc_hub.errors import TrainingFailed
from pauc_hub.sources.by_index import ImageSource, from_entries
from pauc_hub.sources.folders import ImageFile
from pauc_hub.training.data import read_or_next

NOT_AN_IMAGE = (
    "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, JPEG2000, PPM, TGA)"
)


def test_an_unreadable_image_gives_way_to_the_next(
    twelve: ImageSource, noise: Callable[..., Image.Image]
) -> None:
    at, image = read_or_next(twelve, 3)
    assert at == 5
    assert np.asarray(image).tobytes() == noise(5).tobytes()
    assert twelve.unreadable == {3: NOT_AN_IMAGE, 4: NOT_AN_IMAGE}


def test_after_the_last_image_comes_the_first(twelve: ImageSource) -> None:
    last = twelve.subset([*range(11), 3])
    assert read_or_next(last, 11)[0] == 0


def test_an_unreadable_image_is_tried_once(twelve: ImageSource) -> None:
    tried: list[int] = []

    def picture(index: int, _: object) -> Image.Image:
        tried.append(index)
        return Image.new("RGB", (1, 1))

    twelve.picture = picture
    twelve.unreadable[3] = "known"
    assert read_or_next(twelve, 3)[0] == 4
    assert tried == [4]


def test_at_most_a_hundred_neighbours_are_tried() -> None:
    many = from_entries("photos", [ImageFile(str(i), f"/nowhere/{i}") for i in range(500)])
    with pytest.raises(TrainingFailed) as failed:
        read_or_next(many, 7)
    assert str(failed.value) == (
        "none of 100 images from '7' on can be read (No such file or directory). Is 'photos' "
        "intact?"
    )
    assert sorted(many.unreadable) == list(range(7, 107))
