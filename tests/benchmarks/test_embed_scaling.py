"""The line through the measurements, and the images that are made for them."""

from math import sqrt
from pathlib import Path

import pytest
from embed_scaling import DIFFERENT, fit, growth, make_images, small_jpeg

from pauc_hub.images.decoding import read_image
from pauc_hub.sources.folders import find_images


def test_a_line_by_hand() -> None:
    assert fit([0, 1, 2, 2], [1, 3, 5, 5]) == pytest.approx((2, 1, 0), abs=1e-12)
    assert fit([0, 1, 2], [0, 1, 0]) == pytest.approx((0, 1 / 3, sqrt(2) / 3), abs=1e-12)


def test_growth_takes_every_repetition() -> None:
    slow, quick = {"seconds": 5.0, "peak_mib": 500.0}, {"seconds": 3.0, "peak_mib": 500.0}
    found = growth({100_000: [slow, quick], 300_000: [{"seconds": 12.0, "peak_mib": 510.0}]})
    assert found == pytest.approx(
        {
            "seconds_per_100000_images": 4.0,
            "seconds_to_start": 0.0,
            "seconds_residual": sqrt(2 / 3),
            "mib_per_100000_images": 5.0,
            "mib_to_start": 495.0,
            "mib_residual": 0.0,
        },
        abs=1e-9,
    )


def test_images_are_as_many_as_asked_for_and_all_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_scaling.DIFFERENT", 3)
    monkeypatch.setattr("embed_scaling.IN_FOLDER", 4)
    images = find_images(make_images(tmp_path / "ten", 10))
    assert [image.name for image in images[3:6]] == ["0000/003.jpg", "0001/000.jpg", "0001/001.jpg"]
    assert len(images) == 10
    assert {read_image(image.path).size for image in images} == {(64, 64)}
    assert len({image.path.read_bytes() for image in images}) == 3
    assert len(find_images(make_images(tmp_path / "two", 2))) == 2


def test_small_jpegs_are_small_and_differ() -> None:
    made = {small_jpeg(seed) for seed in range(20)}
    assert len(made) == 20
    assert max(map(len, made)) < 5000
    assert DIFFERENT < 65_000 // 4, "a file system has a limit on links to one file: 65,000 in ext4"
