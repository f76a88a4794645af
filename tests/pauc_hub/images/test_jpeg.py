"""The quick decoder: the same numbers as Pillow's, and the same refusals, on whatever it is
given.
"""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.images.decoding import UnreadableImage, read_image, read_with, to_rgb
from pauc_hub.images.jpeg import decode, decode_reduced
from pauc_hub.images.preprocessing import Preprocessing

Picture = Callable[[int, int], Image.Image]


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **{"quality": 90} | options)
    return file.getvalue()


def turned(orientation: int) -> dict[str, Image.Exif]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


ORDINARY = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "rough": {"quality": 5},
    "RGB inside": {"keep_rgb": True},
    "restarts": {"restart_marker_rows": 1},
    "upright": turned(1),
    "orientation without meaning": turned(9),
    "damaged EXIF": {"exif": b"Exif\x00\x00II*\x00\xff\xff\xff\xff"},
    "comment": {"comment": b"x" * 60_000},
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("options", ORDINARY.values(), ids=ORDINARY.keys())
@pytest.mark.parametrize("size", [(97, 64), (1, 1), (640, 481)])
def test_ordinary_jpegs_become_arrays_of_the_same_numbers(
    picture: Picture, size: tuple[int, int], options: dict[str, Any]
) -> None:
    data = jpeg(picture(*size), **options)
    pixels = read_with(decode, io.BytesIO(data))
    assert isinstance(pixels, np.ndarray)
    assert np.array_equal(pixels, np.asarray(read_image(io.BytesIO(data))))


def test_grey_is_three_times_the_same(picture: Picture) -> None:
    data = jpeg(picture(40, 30).convert("L"))
    pixels = read_with(decode, io.BytesIO(data))
    assert isinstance(pixels, np.ndarray)
    assert np.array_equal(pixels, np.asarray(read_image(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_is_to_be_turned_is_left_to_pillow(picture: Picture, orientation: int) -> None:
    data = jpeg(picture(40, 30), **turned(orientation))
    assert read_with(decode, io.BytesIO(data)) == read_image(io.BytesIO(data))


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("MPO", "RGB")]
)
def test_other_images_are_left_to_pillow(picture: Picture, kind: str, mode: str) -> None:
    file = io.BytesIO()
    picture(40, 30).convert(mode).save(file, kind, **({"save_all": True} if kind == "MPO" else {}))
    read = read_with(decode, io.BytesIO(file.getvalue()))
    assert isinstance(read, Image.Image) or kind == "MPO"
    assert np.array_equal(np.asarray(read), np.asarray(read_image(io.BytesIO(file.getvalue()))))


def reduced(data: bytes, short_side: int) -> Any:
    return read_with(lambda image: decode_reduced(image, short_side, to_rgb), io.BytesIO(data))


def drafted(data: bytes, factor: int) -> Image.Image:
    """The same by Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft(image.mode, (image.width // factor, image.height // factor))
        return to_rgb(image)


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((121, 80), 2),
        ((80, 121), 2),
        ((159, 317), 2),
        ((160, 333), 4),
        ((319, 320), 4),
        ((1003, 327), 8),
        ((2000, 999), 8),
    ],
)
def test_large_jpegs_are_reduced_to_twice_the_side_that_is_wanted(
    picture: Picture, size: tuple[int, int], factor: int
) -> None:
    data = jpeg(picture(*size))
    pixels, whole = reduced(data, short_side=20)
    assert whole == size
    assert pixels.shape == (-(-size[1] // factor), -(-size[0] // factor), 3)
    assert np.array_equal(pixels, np.asarray(drafted(data, factor)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_jpegs_are_reduced_likewise_and_keep_their_size_as_seen(
    picture: Picture, orientation: int
) -> None:
    """Of these sides the halves are equal once rounded, so that they alone do not tell which is
    which.
    """
    data = jpeg(picture(200, 199), **turned(orientation))
    pixels, whole = reduced(data, short_side=49)
    assert whole == read_image(io.BytesIO(data)).size
    assert pixels.shape == (100, 100, 3)
    assert np.array_equal(pixels, np.asarray(drafted(data, 2)))


def test_grey_is_reduced_too(picture: Picture) -> None:
    data = jpeg(picture(400, 300).convert("L"))
    pixels, whole = reduced(data, short_side=20)
    assert whole == (400, 300)
    assert np.array_equal(pixels, np.asarray(drafted(data, 4)))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "L")])
def test_what_is_no_large_jpeg_is_not_reduced(picture: Picture, kind: str, mode: str) -> None:
    large, small = io.BytesIO(), jpeg(picture(400, 79))
    picture(400, 300).convert(mode).save(large, kind)
    for data in (large.getvalue(), small):
        assert reduced(data, short_side=40 if data is small else 20) == read_image(io.BytesIO(data))


def outcome(read: Callable[[Path], Any], path: Path) -> tuple[str, str] | None:
    try:
        read(path)
    except UnreadableImage as refusal:
        return refusal.kind, refusal.message
    return None


READERS = {"whole": decode, "reduced": lambda image: decode_reduced(image, 20, decode)}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("progressive", [False, True])
def test_cut_off_anywhere_it_ends_as_with_pillow(
    picture: Picture,
    tmp_path: Path,
    progressive: bool,
    reader: Callable[[Image.Image], Any],
    orientation: int,
) -> None:
    data = jpeg(picture(120, 80), progressive=progressive, **turned(orientation))
    path, outcomes = tmp_path / "cut.jpg", set()
    for length in [
        1,
        *range(0, len(data), len(data) // 20),
        len(data) - 3,
        len(data) - 2,
        len(data) - 1,
    ]:
        path.write_bytes(data[:length])
        expected = outcome(read_image, path)
        assert outcome(lambda path: read_with(reader, path), path) == expected
        outcomes.add(expected[0] if expected else "")
    assert {"empty", "not_an_image", "damaged"} <= outcomes


@pytest.mark.filterwarnings("ignore")  # Pillow's, about what was changed
def test_with_bytes_changed_anywhere_it_ends_as_with_pillow(
    picture: Picture, tmp_path: Path
) -> None:
    draws = np.random.default_rng(0)
    data = np.frombuffer(jpeg(picture(120, 80)), dtype=np.uint8)
    path, refused = tmp_path / "hurt.jpg", 0
    for _ in range(150):
        hurt = data.copy()
        hurt[draws.integers(len(data), size=3)] = draws.integers(256, size=3)
        path.write_bytes(hurt.tobytes())
        expected = outcome(read_image, path)
        assert outcome(lambda path: read_with(decode, path), path) == expected
        refused += expected is not None
        if expected is None:
            assert np.array_equal(np.asarray(read_with(decode, path)), np.asarray(read_image(path)))
    assert 0 < refused < 150


def test_a_jpeg_followed_by_other_bytes_is_read(picture: Picture) -> None:
    data = jpeg(picture(40, 30)) + b"\x00" * 1000
    assert np.array_equal(
        np.asarray(read_with(decode, io.BytesIO(data))), np.asarray(read_image(io.BytesIO(data)))
    )


@pytest.mark.parametrize("step", ["decode", "resize"])
def test_other_threads_run_meanwhile(picture: Picture, step: str) -> None:
    """One call that takes a tenth of a second: were Python's lock held, the clock below would tick
    once or twice.
    """
    large = picture(5000, 4000)
    data, pixels = jpeg(large), np.array(large)
    work = {
        "decode": lambda: read_with(decode, io.BytesIO(data)),
        "resize": lambda: Preprocessing(size=3500).quick_square(pixels),
    }

    def ticks() -> int:
        thread, count = threading.Thread(target=work[step]), 0
        thread.start()
        while thread.is_alive():
            time.sleep(0.001)
            count += 1
        return count

    # another process may hold the clock up, but not each time
    assert any(ticks() > 10 for _ in range(5))
