"""Makers of files from pictures and from bytes; with them goes what reading must come to."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

READ = "embedded"
Make = Callable[[Path], object]  # puts something at a path
# name to READ or a kind of pauc_hub.images.decoding.UNREADABLE_KINDS, and how it is made
Corpus = dict[str, tuple[str, Make]]

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE)


def encoded(form: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def content(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def picture(form: str, image: Image.Image = PHOTO, **options: Any) -> Make:
    return content(encoded(form, image, **options))


def sparse(data: bytes, length: int) -> Make:
    """A file that claims more bytes than a disk has, most of them zero and nowhere."""

    def make(path: Path) -> None:
        path.write_bytes(data)
        os.truncate(path, length)

    return make


WHOLE = {
    "jpg": encoded("JPEG"),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "png": encoded("PNG"),
    "lossy.webp": encoded("WEBP"),
    "lossless.webp": encoded("WEBP", lossless=True),
    "gif": encoded("GIF"),
    "tif": encoded("TIFF"),
    "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
    "bmp": encoded("BMP"),
}
PLAIN = WHOLE["jpg"]


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
