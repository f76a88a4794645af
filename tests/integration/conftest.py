"""A corpus of hostile files, the same in each run; with each stands what reading it must come
to.
"""

import base64
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

READ = "embedded"
Make = Callable[[Path], object]  # puts something at a path
# name to READ or a kind of pauc_hub.images.decoding.KINDS, and how it is made
Corpus = dict[str, tuple[str, Make]]

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE)
# 16 x 16 by libjpeg with arith_code = TRUE; Pillow reads such files and cannot write them
ARITHMETIC = base64.b64decode(
    "/9j/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6/+b9//j/2wBDASstLTw1PHZBQXb4"
    "pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj/yQARCAAQABADAREAAhEBAxEB/8wACgAQEAUBEBEF/9"
    "oADAMBAAIRAxEAPwD+i3RbY3ov7hrfHlv30P/Z"
)


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


# ---------------------------------------------------------------- cut

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


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, data: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


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

# ---------------------------------------------------------------- PNG

RAW = zlib.compress(b"".join(b"\0" + row.tobytes() for row in NOISE))
HEADER, DATA, END = ihdr(64, 48), chunk(b"IDAT", RAW), chunk(b"IEND")
INFLATED = zlib.compress(bytes(1 << 26), 9)  # 64 MiB from 64 KiB


PNGS: Corpus = {
    "plain.png": (READ, content(png(HEADER, DATA, END))),
    "no end.png": (READ, content(png(HEADER, DATA))),
    "no data.png": ("damaged", content(png(HEADER, END))),
    "nothing but a signature.png": ("damaged", content(png())),
    "checksum of header.png": ("damaged", content(png(HEADER[:-1] + b"?", DATA, END))),
    "checksum of data.png": (READ, content(png(HEADER, chunk(b"IDAT", RAW, crc=7), END))),
    "checksum of text.png": (
        "damaged",
        content(png(HEADER, chunk(b"tEXt", b"a\0b", crc=7), DATA, END)),
    ),
    "bomb in text.png": (
        "damaged",
        content(png(HEADER, chunk(b"zTXt", b"a\0\0" + INFLATED), DATA, END)),
    ),
    "bomb in text of the world.png": (
        "damaged",
        content(png(HEADER, chunk(b"iTXt", b"a\0\1\0\0\0" + INFLATED), DATA, END)),
    ),
    "bomb in profile.png": (
        "damaged",
        content(png(HEADER, chunk(b"iCCP", b"a\0\0" + INFLATED), DATA, END)),
    ),
    "bombs in texts.png": (
        "damaged",
        content(
            png(HEADER, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 99, DATA, END)
        ),
    ),
    "bomb in data.png": (READ, content(png(HEADER, chunk(b"IDAT", INFLATED), END))),
    "endless chunk.png": (READ, content(png(HEADER, b"\xff\xff\xff\xffIDAT" + RAW))),
    "no palette.png": ("damaged", content(png(ihdr(64, 48, 8, 3), DATA, END))),
    "three bits.png": ("damaged", content(png(ihdr(64, 48, 3, 0), DATA, END))),
    "no deflate.png": ("damaged", content(png(HEADER, chunk(b"IDAT", bytes(99)), END))),
    "unknown filter.png": (
        "damaged",
        content(png(HEADER, chunk(b"IDAT", zlib.compress(b"\x09" * 193 * 48)), END)),
    ),
    "interlaced and short.png": (
        "damaged",
        content(png(ihdr(64, 48, interlaced=1), chunk(b"IDAT", RAW[:999]), END)),
    ),
    "junk behind.png": (READ, content(png(HEADER, DATA, END) + bytes(999))),
}

# ---------------------------------------------------------------- JPEG

PLAIN = WHOLE["jpg"]
FRAME = PLAIN.index(b"\xff\xc0")  # the start of frame, baseline
SCAN = PLAIN.index(b"\xff\xda")


def without(marker: bytes, data: bytes = PLAIN) -> bytes:
    """Less all segments of a kind."""
    while (at := data.find(marker)) >= 0:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    return data


JPEGS: Corpus = {
    "arithmetic.jpg": (READ, content(ARITHMETIC)),
    "12-bit.jpg": ("damaged", content(PLAIN[: FRAME + 4] + b"\x0c" + PLAIN[FRAME + 5 :])),
    "lossless.jpg": ("damaged", content(PLAIN[: FRAME + 1] + b"\xc3" + PLAIN[FRAME + 2 :])),
    "hierarchical.jpg": ("damaged", content(PLAIN[: FRAME + 1] + b"\xc5" + PLAIN[FRAME + 2 :])),
    "several starts.jpg": ("damaged", content(PLAIN[:2] * 9 + PLAIN[2:])),
    "two photos.jpg": (READ, content(PLAIN * 2)),
    "photo in a photo.jpg": (READ, content(PLAIN[:SCAN] + PLAIN[SCAN:] + PLAIN)),
    "no end.jpg": ("damaged", content(PLAIN[:-2])),
    "no tables.jpg": (READ, content(without(b"\xff\xc4"))),
    "no steps.jpg": ("damaged", content(without(b"\xff\xdb"))),
    "no frame.jpg": ("damaged", content(without(b"\xff\xc0"))),
    "no scan.jpg": ("damaged", content(PLAIN[:SCAN] + b"\xff\xd9")),
    "only a start.jpg": ("not_an_image", content(PLAIN[:2])),
    "scan of noise.jpg": ("damaged", content(PLAIN[: SCAN + 14] + NOISE.tobytes() + b"\xff\xd9")),
    "comments.jpg": (
        READ,
        content(PLAIN[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 50 + PLAIN[2:]),
    ),
    "five components.jpg": ("damaged", content(PLAIN[: FRAME + 9] + b"\x05" + PLAIN[FRAME + 10 :])),
    "junk behind.jpg": (READ, content(PLAIN + NOISE.tobytes() * 9)),
    "a gigabyte behind.jpg": (READ, sparse(PLAIN, 1 << 30)),
}

# ---------------------------------------------------------------- GIF, WebP, BMP, TIFF


def bmp(
    width: int,
    height: int,
    bits: int = 24,
    compression: int = 0,
    colours: int = 0,
    pixels: bytes = b"",
) -> bytes:
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def tiff(*entries: tuple[int, int, int, int], after: int = 0, at: int = 8) -> bytes:
    """One directory of (tag, type, count, value), and where the next one is."""
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    return b"II*\0" + struct.pack("<I", at) + directory + struct.pack("<I", after)


def grey_tiff(
    strip_at: int = 200, strip_bytes: int = 64, compression: int = 1, after: int = 0, side: int = 8
) -> bytes:
    tags = {
        256: side,
        257: side,
        258: 8,
        259: compression,
        262: 1,
        273: strip_at,
        277: 1,
        278: side,
        279: strip_bytes,
    }
    return tiff(*((tag, 4, 1, value) for tag, value in tags.items()), after=after).ljust(
        200, b"\0"
    ) + bytes(range(64))


OTHERS: Corpus = {
    "no frames.gif": (
        "damaged",
        content(b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0, 0, 0) + b";"),
    ),
    "no end.gif": (READ, content(WHOLE["gif"][:-1])),
    "frame beyond the canvas.gif": (READ, content(b"GIF89a\x08\0\x08\0" + WHOLE["gif"][10:])),
    "endless extension.gif": ("damaged", content(WHOLE["gif"][:13] + b"!\xfe" + b"\xff" * 5000)),
    "codes of noise.gif": ("damaged", content(WHOLE["gif"][:-2000] + bytes([255, 7] * 1000))),
    "only a header.webp": ("damaged", content(WHOLE["lossy.webp"][:16])),
    "lying length.webp": ("damaged", content(b"RIFF\xff\xff\xff\x7f" + WHOLE["lossy.webp"][8:])),
    "noise.webp": ("damaged", content(WHOLE["lossless.webp"][:26] + NOISE.tobytes())),
    "lying header.bmp": ("damaged", content(bmp(4_000, 4_000, pixels=bytes(99)))),
    "upside down.bmp": (READ, content(bmp(8, -8, pixels=bytes(8 * 24)))),
    "negative width.bmp": ("too_large", content(bmp(-8, 8, pixels=bytes(8 * 24)))),
    "seven bits.bmp": ("damaged", content(bmp(8, 8, bits=7, pixels=bytes(999)))),
    "endless palette.bmp": (
        "damaged",
        content(bmp(8, 8, bits=8, colours=0x7FFFFFFF, pixels=bytes(999))),
    ),
    "runs too long.bmp": (
        "damaged",
        content(bmp(8, 8, bits=8, compression=1, colours=2, pixels=bytes(8) + b"\xff\1" * 99)),
    ),
    "grey.tif": (READ, content(grey_tiff())),
    "directory after itself.tif": (READ, content(grey_tiff(after=8))),
    "directory in the nowhere.tif": ("damaged", content(tiff(at=0x7FFFFFFF))),
    "directory of nothing.tif": ("damaged", content(tiff())),
    "directory of itself.tif": ("damaged", content(tiff((330, 4, 1, 8), after=8))),
    "strip in the nowhere.tif": ("damaged", content(grey_tiff(strip_at=1 << 30))),
    "strip too short.tif": ("damaged", content(grey_tiff(side=3_000))),
    "unknown compression.tif": ("damaged", content(grey_tiff(compression=999))),
    "deflated noise.tif": ("damaged", content(grey_tiff(compression=8))),
    "fax of noise.tif": ("damaged", content(grey_tiff(compression=4))),
    "jpeg of noise.tif": ("damaged", content(grey_tiff(compression=7))),
    "lzw of noise.tif": ("damaged", content(grey_tiff(compression=5))),
    "endless tag.tif": (
        "damaged",
        content(tiff((256, 4, 1, 8), (257, 4, 1, 8), (273, 4, 0xFFFFFFFF, 8))),
    ),
    "bomb.tif": ("too_large", content(grey_tiff(side=1 << 20))),
    "big.tif": (READ, picture("TIFF", big_tiff=True)),
    "jpeg in it.tif": (READ, picture("TIFF", compression="jpeg")),
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
