"""The streaming engine, driven by an encoder whose embedding of an image is its mean colour."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.images.decoding import read_image, to_rgb
from pauc_hub.images.jpeg import Reduced, decode_reduced
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.model import load
from pauc_hub.inference.streaming import (
    BatchEncoder,
    ImageLike,
    choose_decoder,
    embed_images,
    square,
)


@pytest.fixture
def encoder(mean_colour: type[BatchEncoder]) -> BatchEncoder:
    return mean_colour()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    Image.new("RGB", (26, 30), (60, 0, 0)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


# ---------------------------------------------------------------- decoding


def test_an_unknown_decoding_is_refused(encoder: BatchEncoder) -> None:
    with pytest.raises(UsageError) as refusal:
        choose_decoder(encoder, "rough")
    assert str(refusal.value) == "unknown decoding 'rough'. Use one of exact, scaled."


def photo(width: int, height: int) -> Image.Image:
    """Soft shapes, texture and noise, as of a camera."""
    draws = np.random.default_rng([width, height])
    layers = [
        (
            strength
            * np.asarray(
                Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC),
                np.float32,
            )
        )
        for cells, strength in ((4, 0.5), (48, 0.3), (300, 0.15), (1500, 0.05))
        for coarse in [draws.integers(0, 256, (cells, cells, 3), dtype=np.uint8)]
    ]
    return Image.fromarray(np.clip(np.sum(layers, axis=0), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [64, 224])
def test_scaled_decoding_is_as_near_as_the_documents_say(tmp_path: Path, size: int) -> None:
    """Mean of at most 2 of 255, a cosine of at least 0.999, and the size of the whole;
    docs/embedding.md.
    """
    model = load("pauc_resnet18", device="cpu", precision="fp32")
    preprocessing, squares = Preprocessing(size), []
    for i, (width, height) in enumerate([(2000, 1500), (1500, 2000), (1100, 1101), (4001, 1999)]):
        photo(width, height).save(tmp_path / f"{i}.jpg", quality=92)
        with Image.open(tmp_path / f"{i}.jpg") as image:
            found = decode_reduced(image, preprocessing.short_side, to_rgb)
        assert isinstance(found, Reduced)
        quick = square("", found, preprocessing)
        assert quick.size == (width, height)
        squares.append((quick.square, preprocessing.square(read_image(tmp_path / f"{i}.jpg"))))
    scaled, exact = np.stack([pair[0] for pair in squares]), np.stack([pair[1] for pair in squares])
    assert 0 < np.abs(scaled.astype(int) - exact).mean() <= 2
    if size == model.preprocessing.size:
        paths = sorted(tmp_path.iterdir())
        rows, expected = model.embed(paths, decoding="scaled"), model.embed(paths)
        assert not np.array_equal(rows, expected)
        assert (
            F.cosine_similarity(torch.from_numpy(rows), torch.from_numpy(expected)).min() >= 0.999
        )


# ---------------------------------------------------------------- images in memory


def test_paths_pictures_and_arrays_give_the_same(encoder: BatchEncoder, red: Path) -> None:
    with Image.open(red) as picture:
        pixels, rgba = np.asarray(picture), np.asarray(picture.convert("RGBA"))
        sources: list[ImageLike] = [red, str(red), picture, pixels, rgba]
        embeddings = embed_images(encoder, sources)
    assert embeddings.tolist() == [[60.0, 0.0, 0.0]] * 5


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_grey_arrays_of_every_kind(encoder: BatchEncoder, kind: type[np.generic]) -> None:
    white = {np.uint8: 255, np.uint16: 65535}.get(kind, 1.0)
    array = np.full((9, 9), white).astype(kind)
    assert embed_images(encoder, [array]).tolist() == [[255.0] * 3]


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_as_many_rows_as_images(encoder: BatchEncoder, count: int, batch_size: int) -> None:
    arrays = (np.full((8, 8), i, np.uint8) for i in range(count))
    embeddings = embed_images(encoder, arrays, batch_size=batch_size)
    assert embeddings.shape == (count, 3)
    assert embeddings.dtype == np.float32
    assert embeddings[:, 0].tolist() == list(range(count))


CANNOT = "image 1 cannot be read: an array of"
GIVE = "give (H, W, 3) uint8 in RGB order, or (H, W) for grey."
REFUSED: list[tuple[object, type[Exception], str]] = [
    ("gone.jpg", PaucError, "image 1 ('gone.jpg') cannot be read: No such file or directory."),
    (
        ".",
        UsageError,
        "image 1 ('.') is a folder, not an image. For folders there is `pauc embed .`.",
    ),
    (7, TypeError, "image 1 is a int, not a path, encoded bytes, a PIL image or an array"),
    (np.zeros((3, 8, 8), np.uint8), PaucError, f"{CANNOT} shape (3, 8, 8) and type uint8; {GIVE}"),
    (np.zeros((8, 8, 3)), PaucError, f"{CANNOT} shape (8, 8, 3) and type float64; {GIVE}"),
    (np.zeros((0, 8), np.uint8), PaucError, f"{CANNOT} shape (0, 8) and type uint8; {GIVE}"),
]


@pytest.mark.parametrize(
    ("bad", "error", "message"), REFUSED, ids=lambda value: type(value).__name__
)
def test_says_which_image_is_bad(
    encoder: BatchEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: Any,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refusal:
        embed_images(encoder, [np.zeros((8, 8), np.uint8), bad])
    assert str(refusal.value) == message


def test_a_picture_that_was_never_fully_read_is_named(encoder: BatchEncoder, red: Path) -> None:
    red.write_bytes(red.read_bytes()[:50])
    with Image.open(red) as picture, pytest.raises(PaucError, match=r"^image 0 cannot be read: "):
        embed_images(encoder, [picture])
