"""Files that break, or stretch, the rules of one format: PNG, JPEG, GIF, WebP, BMP and TIFF."""

import base64
import struct
import zlib

from picture_bytes import (
    NOISE,
    PLAIN,
    READ,
    WHOLE,
    Corpus,
    chunk,
    content,
    ihdr,
    picture,
    png,
    sparse,
)

# 16 x 16 by libjpeg with arith_code = TRUE; Pillow reads such files and cannot write them
ARITHMETIC = base64.b64decode(
    "/9j/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6/+b9"
    "//j/2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4"
    "+Pj4+Pj/yQARCAAQABADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+i3RbY3ov7hrfHlv30P/Z"
)

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
