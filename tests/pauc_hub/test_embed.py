"""The streaming engine, driven by an encoder whose embedding of an image is its mean colour."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.embed import Encoder, ImageSource, decode_ahead, embed_images
from pauc_hub.errors import PaucError, UsageError


@pytest.fixture
def encoder(mean_colour: type[Encoder]) -> Encoder:
    return mean_colour()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (26, 30), (60, 0, 0)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


# ---------------------------------------------------------------- decoding ahead


def test_results_come_in_order_however_long_each_takes() -> None:
    def read(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return -item

    assert list(decode_ahead(read, range(20), workers=4, ahead=6)) == [-item for item in range(20)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 3), (8, 4)])
def test_never_further_ahead_than_asked(workers: int, ahead: int) -> None:
    begun, lock = 0, threading.Lock()

    def read(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return item

    for taken, _ in enumerate(decode_ahead(read, range(50), workers, ahead), start=1):
        time.sleep(0.001)
        assert taken <= begun < taken + ahead


def test_a_listing_without_end_is_no_problem() -> None:
    def forever() -> Iterator[int]:
        item = 0
        while True:
            yield item
            item += 1

    results = decode_ahead(lambda item: item, forever(), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()


def test_threads_end_with_the_consumer() -> None:
    before = threading.active_count()
    results = decode_ahead(lambda item: time.sleep(0.01), range(1000), workers=4, ahead=100)
    next(results)
    results.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # those of an earlier test may end meanwhile


# ---------------------------------------------------------------- images in memory


def test_paths_pictures_and_arrays_give_the_same(encoder: Encoder, red: Path) -> None:
    with Image.open(red) as picture:
        pixels, rgba = np.asarray(picture), np.asarray(picture.convert("RGBA"))
        sources: list[ImageSource] = [red, str(red), picture, pixels, rgba]
        embeddings = embed_images(encoder, sources)
    assert embeddings.tolist() == [[60.0, 0.0, 0.0]] * 5


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_grey_arrays_of_every_kind(encoder: Encoder, kind: type[np.generic]) -> None:
    white = {np.uint8: 255, np.uint16: 65535}.get(kind, 1.0)
    array = np.full((9, 9), white).astype(kind)
    assert embed_images(encoder, [array]).tolist() == [[255.0] * 3]


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_as_many_rows_as_images(encoder: Encoder, count: int, batch_size: int) -> None:
    arrays = (np.full((8, 8), i, np.uint8) for i in range(count))
    embeddings = embed_images(encoder, arrays, batch_size=batch_size)
    assert embeddings.shape == (count, 3)
    assert embeddings.dtype == np.float32
    assert embeddings[:, 0].tolist() == list(range(count))


CANNOT = "image 1 cannot be read: an array of"
GIVE = "give (H, W, 3) uint8 in RGB order, or (H, W) for grey."
REFUSED: list[tuple[object, type[Exception], str]] = [
    ("gone.jpg", PaucError, "image 1 ('gone.jpg') cannot be read: No such file or directory."),
    (".", UsageError, "image 1 ('.') is a folder, not an image. For folders there is `pauc embed .`."),
    (7, TypeError, "image 1 is a int, not a path, PIL image or array"),
    (np.zeros((3, 8, 8), np.uint8), PaucError, f"{CANNOT} shape (3, 8, 8) and type uint8; {GIVE}"),
    (np.zeros((8, 8, 3)), PaucError, f"{CANNOT} shape (8, 8, 3) and type float64; {GIVE}"),
    (np.zeros((0, 8), np.uint8), PaucError, f"{CANNOT} shape (0, 8) and type uint8; {GIVE}"),
]


@pytest.mark.parametrize(("bad", "error", "message"), REFUSED, ids=lambda value: type(value).__name__)
def test_says_which_image_is_bad(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Any, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refusal:
        embed_images(encoder, [np.zeros((8, 8), np.uint8), bad])
    assert str(refusal.value) == message


def test_a_picture_that_was_never_fully_read_is_named(encoder: Encoder, red: Path) -> None:
    red.write_bytes(red.read_bytes()[:50])
    with Image.open(red) as picture, pytest.raises(PaucError, match=r"^image 0 cannot be read: "):
        embed_images(encoder, [picture])
