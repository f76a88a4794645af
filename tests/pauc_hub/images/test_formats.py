"""Every format that is read, and what is said of files that are none."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pauc_hub.images import decoding, formats
from pauc_hub.images.decoding import UnreadableImage, read_image, read_numbers

COARSE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
PIXELS = np.asarray(Image.fromarray(COARSE).resize((96, 64), Image.Resampling.BICUBIC))
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("x.avif", 8),
        ("x.jp2", 0),
        ("x.j2k", 0),
        ("x.tga", 0),
        ("x.ppm", 0),
        ("x.png", 0),
        ("x.bmp", 0),
        ("x.webp", 8),
        ("x.jpg", 8),
    ],
)
def test_reads_every_format(tmp_path: Path, name: str, off: float) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)
    assert Path(name).suffix in formats.IMAGE_SUFFIXES
    found = np.asarray(read_image(tmp_path / name))
    assert np.abs(found.astype(int) - PIXELS).mean() <= off
    assert read_numbers(tmp_path / name, ()) is None


def test_what_declares_its_bits_is_scaled_by_them(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 2 1 4095 " + np.array([4095, 2048], ">u2").tobytes())
    assert np.asarray(read_image(tmp_path / "x.pgm"))[0, :, 0].tolist() == [255, 128]
    Image.fromarray(np.full((64, 64), 32896, np.uint16)).save(tmp_path / "x.jp2")
    assert read_image(tmp_path / "x.jp2").getpixel((0, 0)) == (128, 128, 128)
    for name in ("x.pgm", "x.jp2"):
        assert read_numbers(tmp_path / name, ()) is None


def palette_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """8 x 1 pixels that are numbers of a palette."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 1, 8, 3, 0, 0, 0)),
        *chunks,
        (b"IDAT", zlib.compress(bytes(9))),
    ]
    written = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("chunks", [[], [(b"tRNS", b"\0")]])
def test_a_palette_that_is_missing_is_told_of(chunks: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(
        UnreadableImage, match=r"^its pixels are numbers of a palette, and it has none$"
    ) as refusal:
        read_image(io.BytesIO(palette_png(*chunks)))
    assert refusal.value.kind == "damaged"
    assert read_image(io.BytesIO(palette_png((b"PLTE", b"\1\2\3")))).getpixel((0, 0)) == (1, 2, 3)


def test_nothing_of_pillows_own_log_reaches_stderr() -> None:
    """It tells of TIFFs with many bands that way, through the handler of last resort."""
    program = (
        "import logging, pauc_hub.images.decoding; "
        "logging.getLogger('PIL.TiffImagePlugin').error('too many')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"PK\x03\x04", "a ZIP archive; unpack it, or make a tar of it"),
        (b"7z\xbc\xaf'\x1c", "a 7z archive; unpack it, or make a tar of it"),
        (b"\x1f\x8b\x08", "compressed by gzip; unpack it; of archives, .tar.gz and .tgz are read"),
        (b"%PDF-1.7", "a PDF document; extract images from it first"),
        (b"\0\0\0\x20ftypisom", "an MP4 or QuickTime film; extract images from it first"),
        (b"\0\0\0\x14ftypqt  ", "an MP4 or QuickTime film; extract images from it first"),
        (b"\x1aE\xdf\xa3", "a Matroska or WebM film; extract images from it first"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI film; extract images from it first"),
        (bytes(128) + b"DICM", "a DICOM image; convert it to PNG, TIFF or JPEG first"),
        (b"x" * 257 + b"ustar", "a tar archive; name it .tar"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a pointer of Git LFS; fetch the file with `git lfs pull`",
        ),
    ],
)
def test_other_files_are_called_what_they_are(start: bytes, told: str) -> None:
    with pytest.raises(UnreadableImage) as refusal:
        read_image(io.BytesIO(start + bytes(600)))
    assert (refusal.value.kind, refusal.value.message) == ("not_an_image", told)


def test_heic_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "has_heif", lambda: False)
    with pytest.raises(
        UnreadableImage, match=r"HEIC image.*pip install 'pauc-hub\[heif\]'"
    ) as refusal:
        read_image(io.BytesIO(HEIC + bytes(600)))
    assert refusal.value.kind == "not_an_image"


class Toy(ImageFile.ImageFile):
    """A HEIC file of one grey, which its last byte tells."""

    format = "HEIF"

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        if len(data) < 600:
            raise SyntaxError("cut")
        self._mode, self._size = "RGB", (2, 2)
        self.tile = [ImageFile._Tile("raw", (0, 0, 2, 2), len(data) - 12, ("RGB", 0, 1))]


@pytest.fixture
def toy_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In place of pillow-heif."""

    def register() -> None:
        Image.register_open("HEIF", Toy, formats.is_heif)

    monkeypatch.setitem(
        sys.modules, formats.HEIF_PACKAGE, SimpleNamespace(register_heif_opener=register)
    )
    monkeypatch.setattr(decoding, "has_heif", lambda: True)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    formats.register_heif.cache_clear()
    yield
    formats.register_heif.cache_clear()


@pytest.mark.usefixtures("toy_package")
def test_heic_is_read_with_its_package() -> None:
    assert read_image(io.BytesIO(HEIC + bytes(600) + b"\7" * 12)).getpixel((1, 1)) == (7, 7, 7)
    with pytest.raises(UnreadableImage, match=r"^it begins as HEIC, but is broken$") as refusal:
        read_image(io.BytesIO(HEIC))
    assert refusal.value.kind == "damaged"


def test_heic_of_the_package_itself(tmp_path: Path) -> None:
    pillow_heif: Any = pytest.importorskip(
        "pillow_heif", reason="the extra `heif` is not installed"
    )
    pillow_heif.register_heif_opener()
    Image.fromarray(PIXELS).save(tmp_path / "x.heic", quality=90)
    found = np.asarray(read_image(tmp_path / "x.heic"))
    assert np.abs(found.astype(int) - PIXELS).mean() <= 8
