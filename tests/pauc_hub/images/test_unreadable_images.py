"""Files that are no images, or broken ones: each ends as a reason, quickly, and never as a
crash.
"""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pauc_hub.images.decoding import MAX_PIXELS, UNREADABLE_KINDS, UnreadableImage, read_image


def failure(path: Path) -> tuple[str, str]:
    with pytest.raises(UnreadableImage) as refusal:
        read_image(path)
    assert refusal.value.kind in UNREADABLE_KINDS
    assert len(refusal.value.message.splitlines()) == 1
    return refusal.value.kind, refusal.value.message


def quadrants() -> Image.Image:
    """32 x 16: red, green; blue, white."""
    image = Image.new("RGB", (32, 16), "white")
    for colour, box in [("red", (0, 0, 16, 8)), ("lime", (16, 0, 32, 8)), ("blue", (0, 8, 16, 16))]:
        image.paste(colour, box)
    return image


def jpeg() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing, as a decompression bomb would."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BEGINS_AS = "it begins as {}, but is broken, or of a kind that Pillow cannot read"
TWELVE_BITS = jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c")

CONTENTS = [
    ("empty", b"", "empty", "the file has no bytes"),
    ("text", b"<!DOCTYPE html>", "not_an_image", "a web page; fetch the image itself"),
    ("one_byte", b"\xff", "not_an_image", None),
    ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image", None),
    ("cut_jpeg", jpeg()[: len(jpeg()) // 2], "damaged", None),
    ("cut_tiff", b"II*\0\xff\0\0\0", "damaged", None),
    ("twelve_bits", TWELVE_BITS, "damaged", BEGINS_AS.format("JPEG")),
    ("bomb", png_header(20_000, 20_000), "too_large", None),
    ("no_pixels", png_header(60, 40), "damaged", None),
]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"), CONTENTS, ids=[row[0] for row in CONTENTS]
)
def test_says_what_is_wrong_with_the_content(
    tmp_path: Path, name: str, content: bytes, kind: str, message: str | None
) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    found = failure(tmp_path / "x.jpg")
    assert found[0] == kind
    assert message in (None, found[1])


def test_libtiff_says_nothing_past_python(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quadrants().save(tmp_path / "x.tif", compression="tiff_lzw")
    whole = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(whole[:8] + bytes(len(whole[8:60])) + whole[60:])
    assert failure(tmp_path / "x.tif")[0] == "damaged"
    assert capfd.readouterr() == ("", "")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


PLACES: list[tuple[Callable[[Path], None], str]] = [
    (lambda path: None, "missing"),
    (lambda path: path.symlink_to(path.parent / "gone.jpg"), "missing"),
    (lambda path: path.symlink_to(path), "missing"),
    (lambda path: path.symlink_to("/dev/zero"), "not_a_file"),
    (fifo, "not_a_file"),
    (bound_socket, "not_a_file"),
    (Path.mkdir, "not_a_file"),
]


@pytest.mark.parametrize(
    ("make", "kind"),
    PLACES,
    ids=["vanished", "broken link", "loop", "device", "pipe", "socket", "folder"],
)
def test_never_waits_for_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # socket paths must be short
    make(Path("x.jpg").absolute() if make is not bound_socket else Path("x.jpg"))
    assert failure(tmp_path / "x.jpg")[0] == kind


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    quadrants().save(path)

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root
    assert failure(path) == ("permission", "Permission denied")


def test_a_disk_that_fails_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "x.png").write_bytes(jpeg())
    assert failure(tmp_path / "x.png") == ("io", "Input/output error")


def test_the_pixel_limit_is_our_own_and_pillows_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * int(Image.MAX_IMAGE_PIXELS or 0) == MAX_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "x.png").write_bytes(png_header(20_000, 20_000))
    assert failure(tmp_path / "x.png") == (
        "too_large",
        f"20000 x 20000 pixels; the limit is {MAX_PIXELS} in all",
    )
    assert Image.MAX_IMAGE_PIXELS is None


@pytest.mark.filterwarnings("ignore:Image size .* exceeds limit:PIL.Image.DecompressionBombWarning")
def test_a_photo_of_100_megapixels_is_legitimate(tmp_path: Path) -> None:
    Image.new("1", (11_648, 8_736)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").size == (11_648, 8_736)


def outcome(path: Path) -> str:
    try:
        return read_image(path).mode
    except UnreadableImage as refusal:
        return refusal.kind


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif"])
def test_every_cut_of_every_format_is_an_image_or_a_reason(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    quadrants().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        assert outcome(path) in ("RGB", *UNREADABLE_KINDS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif"])
def test_flipped_bytes_are_an_image_or_a_reason(tmp_path: Path, suffix: str) -> None:
    path, draw = tmp_path / f"x.{suffix}", np.random.default_rng(0)
    quadrants().save(path)
    whole = path.read_bytes()
    for _ in range(60):
        broken = bytearray(whole)
        for place in draw.integers(0, min(len(whole), 200), 3):
            broken[place] = int(draw.integers(256))
        path.write_bytes(broken)
        assert outcome(path) in ("RGB", *UNREADABLE_KINDS)
