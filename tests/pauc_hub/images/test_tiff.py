"""TIFF files of any number of bands, as scientific tools write them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.images import tiff
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.images.reading import Reading

WriteTiff = Callable[..., Path]
H, W = 40, 50


def numbers(dtype: str, bands: int) -> np.ndarray[Any, Any]:
    """Of the whole range of the type, in its byte order."""
    kind, rng = np.dtype(dtype), np.random.default_rng(bands)
    if kind.kind == "f":
        return rng.normal(0, 1000, (H, W, bands)).astype(kind)
    return rng.integers(0, 2**31 - 1, (H, W, bands)).astype(kind.newbyteorder("=")).astype(kind)


def read(path: Path, bands: list[int]) -> np.ndarray[Any, Any]:
    file = io.BytesIO(path.read_bytes())
    tags = tiff.read_tags(file)
    layout = tiff.read_layout(tags)
    assert layout.is_numeric
    return tiff.read_samples(file, tags, layout, bands)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i2", ">u4", "<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("tile", [0, 32])
def test_reads_every_type_and_arrangement(
    tmp_path: Path, write_tiff: WriteTiff, dtype: str, planar: int, tile: int
) -> None:
    pixels = numbers(dtype, 5)
    for predictor in (1, 3 if "f" in dtype else 2):
        path = write_tiff(
            tmp_path / "x.tif",
            pixels,
            deflate=predictor > 1,
            predictor=predictor,
            planar=planar,
            tile=tile,
        )
        assert (read(path, [0, 1, 2, 3, 4]) == pixels).all()
        assert (read(path, [4, 0]) == pixels[..., [4, 0]]).all()


def test_reads_files_of_any_length(tmp_path: Path, write_tiff: WriteTiff) -> None:
    pixels = numbers("<u2", 4)
    assert (read(write_tiff(tmp_path / "x.tif", pixels, big=True), [3]) == pixels[..., 3:]).all()


def test_reads_in_stretches_what_is_large(
    tmp_path: Path, write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "BYTES_TOGETHER", 1)
    for options in ({}, {"deflate": True, "predictor": 2}, {"tile": 16}):
        pixels = numbers("<u2", 3)
        assert (read(write_tiff(tmp_path / "x.tif", pixels, **options), [0, 1, 2]) == pixels).all()


@pytest.mark.parametrize("deflate", [False, True])
def test_a_file_that_ends_early_is_damaged(
    tmp_path: Path, write_tiff: WriteTiff, deflate: bool
) -> None:
    path = write_tiff(
        tmp_path / "x.tif", numbers("<u2", 6), deflate=deflate, tags={273: [8, 10**6, 8]}
    )
    with pytest.raises(UnreadableImage) as refusal:
        read_image(path, Reading(bands=(3, 2, 1)))
    assert refusal.value.kind == "damaged"


# ---------------------------------------------------------------- bands

NIR = np.array([10, 20, 30, 128], np.uint8)


@pytest.mark.parametrize(
    ("bands", "photometric", "extra"),
    [
        (4, 2, None),
        (4, 2, [0]),
        (2, 1, [0]),
        (2, 1, None),
        (3, 1, [0, 0]),
        (6, 1, [0] * 5),
        (5, 2, [0, 2]),
        (5, 2, [2, 0]),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_bands_without_a_meaning_are_refused_with_their_number(
    tmp_path: Path,
    write_tiff: WriteTiff,
    bands: int,
    photometric: int,
    extra: list[int] | None,
    dtype: str,
) -> None:
    tags = {} if extra is None else {338: extra}
    path = write_tiff(tmp_path / "x.tif", numbers(dtype, bands), photometric=photometric, tags=tags)
    with pytest.raises(UnreadableImage, match=rf"^{bands} bands: beyond [13] of colour") as refusal:
        read_image(path)
    assert refusal.value.kind == "unsupported"


@pytest.mark.parametrize(("kind", "expected"), [(2, (132, 137, 142)), (1, (137, 147, 157))])
def test_a_band_is_transparency_where_it_is_declared(
    tmp_path: Path, write_tiff: WriteTiff, kind: int, expected: tuple[int, int, int]
) -> None:
    """Half transparent over white: not yet multiplied by the opacity, or multiplied already."""
    for pixels in (
        np.broadcast_to(NIR, (H, W, 4)),
        np.broadcast_to(NIR.astype("<u2") * 257, (H, W, 4)),
    ):
        path = write_tiff(tmp_path / "x.tif", pixels, photometric=2, tags={338: [kind]})
        found = np.asarray(read_image(path).getpixel((3, 3)))
        assert np.abs(found - expected).max() <= 1


def test_chosen_bands_are_colours(tmp_path: Path, write_tiff: WriteTiff) -> None:
    pixels = numbers("u1", 6)
    path = write_tiff(tmp_path / "x.tif", pixels)
    assert (np.asarray(read_image(path, Reading(bands=(4, 6, 1)))) == pixels[..., [3, 5, 0]]).all()
    assert (np.asarray(read_image(path, Reading(bands=(2,))))[..., 2] == pixels[..., 1]).all()
    with pytest.raises(UnreadableImage, match=r"^6 bands, of which band 7 was asked for$"):
        read_image(path, Reading(bands=(7, 2, 1)))


def test_bands_are_chosen_of_tiffs_alone(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", Reading(bands=(3, 2, 1))).getpixel((0, 0)) == (255, 0, 0)


def test_colours_of_sixteen_bits_and_floats_keep_them_all(
    tmp_path: Path, write_tiff: WriteTiff
) -> None:
    """Pillow takes the more significant byte of the first, and does not open the second."""
    pixels = np.linspace(0, 4080, H * W * 3).reshape(H, W, 3)
    for dtype in ("<u2", ">u2", "<f4"):
        path = write_tiff(tmp_path / "x.tif", pixels.astype(dtype), photometric=2)
        shown = np.asarray(read_image(path, Reading((0.0, 4080.0))), float)
        assert np.abs(shown - pixels / 16).max() <= 0.5 + 1 / 16


def test_white_may_be_low(tmp_path: Path, write_tiff: WriteTiff) -> None:
    pixels = np.full((H, W, 1), 65535, "<u2")
    assert read_image(write_tiff(tmp_path / "x.tif", pixels, photometric=0)).getpixel((0, 0)) == (
        0,
        0,
        0,
    )


def test_a_turned_one_is_seen_upright(tmp_path: Path, write_tiff: WriteTiff) -> None:
    pixels = numbers("u1", 5)
    path = write_tiff(tmp_path / "x.tif", pixels, tags={274: [6]})
    image = np.asarray(read_image(path, Reading(bands=(1, 2, 3))))
    assert (image == np.rot90(pixels[..., :3], -1)).all()


def test_colours_that_nobody_knows_are_no_damage(tmp_path: Path, write_tiff: WriteTiff) -> None:
    with pytest.raises(
        UnreadableImage, match=r"^a TIFF of 1 band of 16 bits, photometric kind 32803"
    ) as refusal:
        read_image(write_tiff(tmp_path / "x.tif", numbers("<u2", 1), photometric=32803))
    assert refusal.value.kind == "unsupported"
