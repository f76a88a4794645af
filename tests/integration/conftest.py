"""A corpus of hostile files, the same in each run; with each stands what reading it must come
to.
"""

import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_formats import JPEGS, OTHERS, PNGS
from picture_bytes import (
    PHOTO,
    PLAIN,
    READ,
    WHOLE,
    Corpus,
    Make,
    chunk,
    content,
    encoded,
    ihdr,
    picture,
    png,
    sparse,
)
from PIL import Image, ImageCms

# ---------------------------------------------------------------- cut


def cut(data: bytes, tenths: int) -> Make:
    return content(data[: len(data) * tenths // 10])


CUTS: Corpus = {
    f"cut {tenths}0%.{name}": ("damaged", cut(data, tenths))
    for name, data in WHOLE.items()
    for tenths in range(1, 10)
}

# ---------------------------------------------------------------- no images at all


FOREIGN: Corpus = {
    "empty.jpg": ("empty", content(b"")),
    "one byte.png": ("not_an_image", content(b"\xff")),
    "zeros.png": ("not_an_image", content(bytes(4096))),
    "text.jpg": ("not_an_image", content(b"this is not a photo\n")),
    "page.jpg": ("not_an_image", content(b"<!DOCTYPE html><title>404</title>")),
    "drawing.png": (
        "not_an_image",
        content(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    ),
    "archive.jpg": ("not_an_image", content(b"PK\x03\x04" + bytes(60))),
    "postscript.jpg": (
        "not_an_image",
        content(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ),
    "heic.jpg": ("not_an_image", content(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60))),
    "jpeg2000.jpg": (READ, picture("JPEG2000")),
    "sparse.jpg": ("not_an_image", sparse(b"", 1 << 40)),
    "png.jpg": (READ, picture("PNG")),
    "jpeg.png": (READ, picture("JPEG")),
    "webp.gif": (READ, picture("WEBP")),
    "tiff.jpg": (READ, picture("TIFF")),
}

# ---------------------------------------------------------------- sizes


def flat_png(width: int, height: int) -> bytes:
    """One bit a pixel; deflate makes it a thousandth."""
    return png(
        ihdr(width, height, 1, 0),
        chunk(b"IDAT", zlib.compress(bytes((width + 7) // 8 + 1) * height)),
        chunk(b"IEND"),
    )


def resized_jpeg(width: int, height: int) -> bytes:
    """One that lies about its size."""
    data = encoded("JPEG", progressive=False)
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def dot(mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (1, 1))


SIZES: Corpus = {
    "dot.jpg": (READ, picture("JPEG", dot())),
    "dot.png": (READ, picture("PNG", dot("1"))),
    "dot.gif": (READ, picture("GIF", dot("P"))),
    "dot.webp": (READ, picture("WEBP", dot("RGBA"))),
    "dot.bmp": (READ, picture("BMP", dot())),
    "dot.tif": (READ, picture("TIFF", dot("L"))),
    "wide.jpg": (READ, picture("JPEG", Image.new("RGB", (30_000, 1)))),
    "tall.png": (READ, picture("PNG", Image.new("RGB", (1, 30_000)))),
    "large.jpg": (READ, picture("JPEG", Image.new("RGB", (30_000, 900)))),
    "longest.jpg": (READ, picture("JPEG", Image.new("L", (65_500, 3)))),
    "zero wide.png": (
        "damaged",
        content(png(ihdr(0, 9), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND"))),
    ),
    "zero high.jpg": ("damaged", content(resized_jpeg(64, 0))),
    "bomb header.png": (
        "too_large",
        content(png(ihdr(20_000, 20_000), chunk(b"IDAT"), chunk(b"IEND"))),
    ),
    "bomb.png": ("too_large", content(flat_png(20_000, 20_000))),
    "bomb.jpg": ("too_large", content(resized_jpeg(65_500, 65_500))),
    "bomb.gif": ("too_large", content(b"GIF89a" + b"\xff" * 4 + encoded("GIF")[10:])),
    "bomb.webp": (
        "too_large",
        content(encoded("WEBP", lossless=True)[:21] + b"\xff\xff\xff\x0f" + bytes(99)),
    ),
    "lying.jpg": (READ, content(resized_jpeg(9_000, 1_000))),
    "lying.png": (
        "damaged",
        content(png(ihdr(3_000, 3_000), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND"))),
    ),
}


# ---------------------------------------------------------------- colours, frames, metadata


def grey(dtype: str, *values: float) -> Image.Image:
    return Image.fromarray(np.resize(np.array(values, dtype=dtype), (48, 64)))


def exif(data: bytes) -> bytes:
    return b"Exif\0\0" + data


def frames(form: str, **options: Any) -> Make:
    return picture(
        form,
        save_all=True,
        append_images=[Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")],
        **options,
    )


ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ONE_IFD_FOR_EVER = b"II*\0\x08\0\0\0\0\0\x08\0\0\0"
PALETTE = PHOTO.quantize(16)

COLOURS: Corpus = {
    "cmyk.jpg": (READ, picture("JPEG", PHOTO.convert("CMYK"))),
    "cmyk.tif": (READ, picture("TIFF", PHOTO.convert("CMYK"))),
    "ycbcr.tif": (READ, picture("TIFF", PHOTO.convert("YCbCr"))),
    "lab.tif": (READ, picture("TIFF", PHOTO.convert("LAB"))),
    "16-bit.png": (READ, picture("PNG", grey("uint16", 0, 999, 65535))),
    "16-bit.tif": (READ, picture("TIFF", grey("uint16", 0, 999, 65535))),
    "32-bit.tif": (READ, picture("TIFF", grey("int32", -7, 0, 2**31 - 1))),
    "float.tif": (READ, picture("TIFF", grey("float32", -1e38, 0, 1e38))),
    "one float.tif": (READ, picture("TIFF", grey("float32", 3e38))),
    "no number.tif": (READ, picture("TIFF", grey("float32", np.nan, np.inf, -np.inf))),
    "bilevel.png": (READ, picture("PNG", PHOTO.convert("1"))),
    "palette.png": (READ, picture("PNG", PALETTE, transparency=bytes(range(16)))),
    "palette.gif": (READ, picture("GIF", PALETTE, transparency=3)),
    "grey with alpha.png": (READ, picture("PNG", PHOTO.convert("LA"))),
    "animated.gif": (READ, frames("GIF")),
    "animated.webp": (READ, frames("WEBP")),
    "animated.png": (READ, frames("PNG")),
    "pages.tif": (READ, frames("TIFF")),
    "two views.jpg": (READ, frames("MPO")),
    "turned.jpg": (
        READ,
        picture(
            "JPEG", exif=exif(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
        ),
    ),
    "turned by text.jpg": (
        READ,
        picture("JPEG", exif=exif(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04up!\0\0\0\0\0")),
    ),
    "exif cut.jpg": (READ, picture("JPEG", exif=exif(b"II*\0\x08\0\0\0\xff\xff"))),
    "exif nonsense.jpg": (READ, picture("JPEG", exif=exif(b"\xff" * 99))),
    "exif nonsense.webp": (READ, picture("WEBP", exif=exif(b"\xff" * 99))),
    "exif loop.png": (READ, picture("PNG", exif=exif(ONE_IFD_FOR_EVER))),
    "icc.jpg": (READ, picture("JPEG", icc_profile=ICC)),
    "icc nonsense.jpg": (READ, picture("JPEG", icc_profile=b"\xff" * 70_000)),
    "icc nonsense.png": (READ, picture("PNG", icc_profile=b"\xff" * 999)),
    "icc for another colour space.jpg": (
        READ,
        picture("JPEG", PHOTO.convert("CMYK"), icc_profile=ICC),
    ),
    "icc half gone.jpg": (
        READ,
        content(
            encoded("JPEG", icc_profile=bytes(70_000)).replace(
                b"ICC_PROFILE\0\x02", b"ICC_PROFILE\0\x07"
            )
        ),
    ),
}

# ---------------------------------------------------------------- places


def link(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an absolute name may be too long for a socket


def locked(path: Path) -> None:
    path.write_bytes(PLAIN)
    path.chmod(0)


def locked_folder(path: Path) -> None:
    inside(path / "unseen.jpg")
    path.chmod(0)


def inside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(PLAIN)


PLACES: Corpus = {
    "broken link.jpg": ("missing", link("gone.jpg")),
    "link to itself.jpg": ("missing", link("link to itself.jpg")),
    "link to a device.jpg": ("not_a_file", link("/dev/zero")),
    "link to a photo.jpg": (READ, link("plain.png")),
    "pipe.jpg": ("not_a_file", os.mkfifo),
    "socket.jpg": ("not_a_file", bind),
    "folder.jpg/inside.jpg": (READ, inside),
    "folder.jpg/link to all": ("", link("..")),
    "locked.jpg": ("permission", locked),
    "locked folder/": ("permission", locked_folder),
    os.fsdecode(b"caf\xe9.jpg"): (READ, content(PLAIN)),
    os.fsdecode(b"caf\xe9 of text.jpg"): ("not_an_image", content(b"text")),
    "of two\nlines.jpg": (READ, content(PLAIN)),
    "\x1b[31m and \r.jpg": (READ, content(PLAIN)),
    "'; rm -rf *; \".jpg": (READ, content(PLAIN)),
    "--overwrite.jpg": (READ, content(PLAIN)),
    f"{'long' * 62}.jpg": (READ, content(PLAIN)),
    "vanished.jpg": ("missing", content(PLAIN)),  # whoever uses the corpus removes it in time
}


@pytest.fixture(scope="session")
def hostile_files() -> Corpus:
    """Names to outcomes and makers, in the order to make them in; an outcome `` is of what is no
    image to anybody.
    """
    return CUTS | FOREIGN | SIZES | COLOURS | PNGS | JPEGS | OTHERS | PLACES
