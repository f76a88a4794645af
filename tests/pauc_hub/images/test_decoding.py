"""Reading good images of every kind."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pauc_hub.images.decoding import UnreadableImage, read_image, to_rgb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(
    path: Path, colour: Any = RED, mode: str = "RGB", size: tuple[int, int] = (8, 6), **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> Any:
    return image.getpixel((x, y))


# ---------------------------------------------------------------- reading

COLOURS: list[tuple[str, str, object, dict[str, Any], tuple[int, int, int]]] = [
    ("rgb.png", "RGB", RED, {}, RED),
    ("rgb.bmp", "RGB", RED, {}, RED),
    ("rgb.tiff", "RGB", RED, {}, RED),
    ("rgb.webp", "RGB", RED, {"lossless": True}, RED),
    ("grey.png", "L", 77, {}, (77, 77, 77)),
    ("bilevel.png", "1", 1, {}, WHITE),
    ("opaque.png", "RGBA", (*RED, 255), {}, RED),
    ("clear.png", "RGBA", (*RED, 0), {}, WHITE),
    ("half.png", "RGBA", (0, 0, 0, 127), {}, (128, 128, 128)),
    ("half.webp", "RGBA", (0, 0, 0, 127), {"lossless": True}, (128, 128, 128)),
    ("half.tiff", "RGBA", (0, 0, 0, 127), {}, (128, 128, 128)),
    ("grey_half.png", "LA", (0, 127), {}, (128, 128, 128)),
    ("keyed.png", "RGB", RED, {"transparency": RED}, WHITE),
    ("grey_keyed.png", "L", 9, {"transparency": 9}, WHITE),
    ("cmyk.tiff", "CMYK", (255, 0, 0, 0), {}, (0, 255, 255)),
    ("deep.png", "I;16", 32896, {}, (128, 128, 128)),
    ("deep.tiff", "I;16", 65535, {}, WHITE),
    ("dark.png", "I;16", 300, {}, (1, 1, 1)),
    ("unit_float.tiff", "F", 0.5, {}, (128, 128, 128)),
    ("int.tiff", "I", 32896, {}, (128, 128, 128)),
]


@pytest.mark.parametrize(
    ("name", "mode", "colour", "options", "expected"), COLOURS, ids=[row[0] for row in COLOURS]
)
def test_reads_every_mode_as_rgb(
    tmp_path: Path,
    name: str,
    mode: str,
    colour: object,
    options: dict[str, Any],
    expected: tuple[int, int, int],
) -> None:
    image = read_image(save(tmp_path / name, colour, mode, **options))
    assert (image.mode, image.size, pixel(image)) == ("RGB", (8, 6), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
def test_reads_jpegs_of_every_colour_space(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (16, 16), (200, 200, 200)).convert(mode).save(path, quality=95)
    assert read_image(path).mode == "RGB"
    assert np.abs(np.asarray(read_image(path), dtype=int) - 200).max() <= 3


def deep_png(colour_type: int, *values: int) -> bytes:
    """One pixel of 16 bits a channel, which Pillow itself does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(struct.pack(f">B{len(values)}H", 0, *values))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


DEEP = [
    (deep_png(2, 65535, 32896, 0), (255, 128, 0)),  # RGB
    (deep_png(6, 65535, 32896, 0, 65535), (255, 128, 0)),  # RGBA
    (deep_png(6, 0, 0, 0, 0), WHITE),
    (deep_png(4, 32896, 65535), (128, 128, 128)),  # grey and alpha
    (deep_png(4, 32896, 0), WHITE),
]


@pytest.mark.parametrize(("content", "expected"), DEEP)
def test_sixteen_bits_a_channel_are_scaled_and_not_clipped(
    content: bytes, expected: tuple[int, int, int]
) -> None:
    assert pixel(read_image(io.BytesIO(content))) == expected


@pytest.mark.parametrize("as_bytes", [False, True])
def test_palettes_with_transparency_lie_over_white(tmp_path: Path, as_bytes: bool) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    image.save(tmp_path / "x.png", transparency=bytes([255, 0]) if as_bytes else 1)
    read = read_image(tmp_path / "x.png")
    assert (pixel(read, 0), pixel(read, 1)) == (RED, WHITE)


def test_palettes_with_an_alpha_band_lie_over_white() -> None:
    image = Image.new("RGBA", (1, 1), (*RED, 0)).convert("PA")
    assert pixel(to_rgb(image)) == WHITE


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "png"])
def test_animations_give_their_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    frames = [Image.new("RGB", (8, 6), colour) for colour in (GREEN, RED, BLUE)]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert pixel(read_image(path)) == GREEN


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    assert pixel(read_image(save(tmp_path / "x.jpg", format="PNG"))) == RED


def test_reads_streams_as_well() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), BLUE).save(stream, "PNG")
    assert pixel(read_image(io.BytesIO(stream.getvalue()))) == BLUE
    with pytest.raises(UnreadableImage, match="not an image of a known format"):
        read_image(io.BytesIO(b"text"))


# ---------------------------------------------------------------- orientation


def corners(image: Image.Image) -> str:
    """Top left, top right, bottom left, bottom right, as letters."""
    right, bottom = image.width - 1, image.height - 1
    nearest = {RED: "r", GREEN: "g", BLUE: "b", WHITE: "w"}
    found = [pixel(image, x, y) for y in (0, bottom) for x in (0, right)]
    return "".join(
        nearest[min(nearest, key=lambda colour: np.abs(np.subtract(colour, each)).sum())]
        for each in found
    )


def quadrants() -> Image.Image:
    """32 x 16: red, green; blue, white."""
    image = Image.new("RGB", (32, 16), WHITE)
    for colour, box in [(RED, (0, 0, 16, 8)), (GREEN, (16, 0, 32, 8)), (BLUE, (0, 8, 16, 16))]:
        image.paste(colour, box)
    return image


# EXIF 2.32, tag 0x0112; beside each, where the stored row 0 and column 0 are in the picture as
# seen.
ORIENTATIONS = [
    (1, "rgbw", (32, 16)),  # top, left
    (2, "grwb", (32, 16)),  # top, right
    (3, "wbgr", (32, 16)),  # bottom, right
    (4, "bwrg", (32, 16)),  # bottom, left
    (5, "rbgw", (16, 32)),  # left, top
    (6, "brwg", (16, 32)),  # right, top
    (7, "wgbr", (16, 32)),  # right, bottom
    (8, "gwrb", (16, 32)),  # left, bottom
    (0, "rgbw", (32, 16)),  # no meaning: as stored
    (99, "rgbw", (32, 16)),
]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize(("orientation", "expected", "size"), ORIENTATIONS)
def test_turns_images_upright(
    tmp_path: Path, suffix: str, orientation: int, expected: str, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    quadrants().save(tmp_path / f"x.{suffix}", exif=exif, **options)
    image = read_image(tmp_path / f"x.{suffix}")
    assert (corners(image), image.size) == (expected, size)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"\x00",
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05",
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_corrupt_exif_loses_no_image(tmp_path: Path, suffix: str, exif: bytes) -> None:
    quadrants().save(tmp_path / f"x.{suffix}", exif=exif)
    assert read_image(tmp_path / f"x.{suffix}").size == (32, 16)


def test_exif_that_cannot_be_parsed_at_all_loses_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image) -> Image.Exif:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert to_rgb(quadrants()).size == (32, 16)
