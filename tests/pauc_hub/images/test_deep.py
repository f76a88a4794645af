"""Images of more than 8 bits: every kind keeps what it shows, and none is guessed at by itself."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.images import deep
from pauc_hub.images.decoding import (
    FEW_LEVELS,
    MORE_PAGES,
    UnreadableImage,
    from_array,
    read_image,
    read_numbers,
    remarks_on,
    to_rgb,
)
from pauc_hub.images.reading import Reading

WriteTiff = Callable[..., Path]
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
COLOURS = {0: 1, 2: 3, 4: 2, 6: 4}  # channels of a PNG's colour types


def write_png(path: Path, values: np.ndarray[Any, Any], colour_type: int, **chunks: bytes) -> Path:
    """16 bits a channel, which Pillow writes in grey alone."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = values.astype(">u2").reshape(height, -1)
    parts = [chunk(b"IHDR", header), *(chunk(kind.encode(), data) for kind, data in chunks.items())]
    parts += [
        chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def shown(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image)[..., 0]


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_a_png_of_sixteen_bits_keeps_those_that_pillow_drops(
    tmp_path: Path, colour_type: int
) -> None:
    channels = COLOURS[colour_type]
    values = np.repeat(RAMP[..., None], channels, axis=2)
    if channels in (2, 4):
        values[..., -1] = 65535
    path = write_png(tmp_path / "x.png", values, colour_type)
    assert (shown(read_image(path, Reading((0.0, 255.0)))) == RAMP).all()
    found = read_numbers(path, ())
    assert found is not None
    assert found[0] == ("uint16" if channels in (1, 2) else "uint16 x 3")
    assert (found[1][..., 0] == RAMP).all()


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_transparent_colour_of_sixteen_bits_is_white(tmp_path: Path, colour_type: int) -> None:
    values = np.repeat(RAMP[..., None], COLOURS[colour_type], axis=2) * 257
    key = struct.pack(">H", 257 * 7) * COLOURS[colour_type]
    image = shown(read_image(write_png(tmp_path / "x.png", values, colour_type, tRNS=key)))
    assert (image == np.where(RAMP == 7, 255, RAMP)).all()


def test_opacity_of_sixteen_bits_is_laid_over_white(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 4), np.uint16)
    values[..., 3] = [[0, 65535], [32896, 255]]
    assert shown(read_image(write_png(tmp_path / "x.png", values, 6))).tolist() == [
        [255, 0],
        [127, 255],
    ]


def test_a_png_may_tell_that_it_holds_fewer_bits(tmp_path: Path) -> None:
    path = write_png(tmp_path / "x.png", RAMP, 0, sBIT=bytes([12]))
    found = read_numbers(path, ())
    assert found is not None
    assert found[0] == "uint16 of 12 bits"
    assert (shown(read_image(path, Reading({"uint16 of 12 bits": (0.0, 255.0)}))) == RAMP).all()
    assert read_numbers(write_png(tmp_path / "x.png", RAMP, 0, sBIT=bytes([16])), ())[0] == "uint16"  # type: ignore[index]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({281: [4095]}, 16), ({280: [4080], 281: [8160]}, 0), ({281: [65535]}, 1), ({280: [0]}, 1)],
)
def test_a_tiff_may_tell_its_largest_number(
    tmp_path: Path, write_tiff: WriteTiff, tags: dict[int, list[int]], expected: int
) -> None:
    path = write_tiff(tmp_path / "x.tif", np.full((4, 4, 1), 255, np.uint16), tags=tags)
    assert shown(read_image(path))[0, 0] == expected
    assert (read_numbers(path, ()) is None) == (expected != 1)  # what is declared is not measured


def test_a_tiff_of_twelve_bits_has_the_range_of_twelve_bits(tmp_path: Path) -> None:
    """Two numbers in three bytes, which Pillow reads and does not write."""
    packed = bytes([0xFF, 0xFF, 0xFF, 0x80, 0x08, 0x00])  # 4095, 4095, 2048, 2048
    fields = [
        (256, 4),
        (257, 1),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 6),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    start = struct.pack("<2sHI", b"II", 42, 14)
    (tmp_path / "x.tif").write_bytes(
        start + packed + struct.pack("<H", len(fields)) + entries + bytes(4)
    )
    assert shown(read_image(tmp_path / "x.tif")).tolist() == [[255, 255, 128, 128]]


def test_one_pixel_beyond_the_range_changes_no_other(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    before = np.asarray(from_array(values))
    values[0, 0] = 1.01
    after = np.asarray(from_array(values))
    assert (after[0, 0] == 255).all()
    assert (before.reshape(-1, 3)[1:] == after.reshape(-1, 3)[1:]).all()


@pytest.mark.parametrize("kind", ["uint16", "int32", "float16", "float32", "float64"])
def test_arrays_of_any_numbers_have_a_range(kind: str) -> None:
    array = np.full((8, 6), 340, kind)
    assert shown(from_array(array, Reading((100.0, 500.0))))[0, 0] == 153
    if kind.startswith("float"):
        with pytest.raises(UnreadableImage, match=r"numbers from 340 to 341, and nothing tells"):
            from_array(array)
    else:
        assert shown(from_array(array))[0, 0] == 1


def test_not_a_number_is_black_and_the_infinite_are_clipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deep, "PIXELS_TOGETHER", 3)
    values = np.array([[-100.0, 100.0, 155.0], [np.nan, np.inf, -np.inf]], dtype=np.float32)
    assert shown(from_array(values, Reading("image"))).tolist() == [[0, 200, 255], [0, 255, 0]]
    assert shown(from_array(values, Reading((0.0, 100.0)))).tolist() == [[0, 255, 255], [0, 255, 0]]


def test_images_in_memory_are_read_alike() -> None:
    image = Image.fromarray(RAMP)
    assert (shown(to_rgb(image, Reading((0.0, 255.0)))) == RAMP).all()
    assert (shown(to_rgb(Image.fromarray(RAMP / np.float32(255)))) == RAMP).all()


def test_few_levels_are_remarked_unless_there_were_no_more() -> None:
    few = from_array(RAMP)
    assert remarks_on(few) == (FEW_LEVELS,)
    assert remarks_on(from_array(RAMP, Reading((0.0, 255.0)))) == ()
    assert remarks_on(from_array(RAMP // 100 * 300)) == ()  # three levels of three
    # all below black
    assert remarks_on(from_array(RAMP, Reading((1000.0, 2000.0)))) == (FEW_LEVELS,)


def test_more_pages_are_remarked_unless_they_are_smaller_copies(tmp_path: Path) -> None:
    pages = [Image.new("L", (32, 32), grey) for grey in (7, 8)]
    pages[0].save(tmp_path / "one.tif")
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    smaller = pages[1].resize((16, 16))
    smaller.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "pyramid.tif", save_all=True, append_images=[smaller])
    assert [
        remarks_on(read_image(tmp_path / f"{name}.tif")) for name in ("one", "two", "pyramid")
    ] == [
        (),
        (MORE_PAGES,),
        (),
    ]
    assert read_image(tmp_path / "two.tif").getpixel((0, 0)) == (7, 7, 7)


def test_what_has_bytes_has_no_numbers(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    assert read_numbers(tmp_path / "x.png", ()) is None
    assert read_numbers(io.BytesIO((tmp_path / "x.png").read_bytes()), ()) is None
