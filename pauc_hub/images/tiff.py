"""TIFF files beyond Pillow: any number of bands, of 8 to 64 bits. H height, W width, N bands
(samples a pixel).

Pillow decodes no more than four bands, and colours to 8 bits only. Its decompression (libtiff) is
used all the same: the strips or tiles are handed to it as a grey image of bytes, N times as wide,
and become numbers here.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Tags, as the TIFF 6.0 specification numbers them.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
ORIENTATION, MIN_VALUE, MAX_VALUE, PLANAR, PREDICTOR = 274, 280, 281, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, MIN_NUMBER, MAX_NUMBER = 338, 339, 340, 341
KIND_OF_PAGE, REDUCED = 254, 1

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
# bands of each colour space
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, 3: 1, 5: 4, 6: 3, 8: 3}
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha: premultiplied, or not
# compressions of plain bytes: none, LZW, deflate, PackBits, LZMA, Zstd
STREAMS = {1, 5, 8, 32773, 32946, 34925, 50000}
PREDICTED = {5, 8, 32946, 34925, 50000}  # those that may hold differences between neighbours
HORIZONTAL, FLOATING = 2, 3  # predictors: differences of numbers, or of the bytes of floats
SEPARATE = 2  # planar configuration: band after band
BLOCKS_OF_STRIPS, BLOCKS_OF_TILES = (STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)
TYPES = {1: "u", 2: "i", 3: "f"}  # sample formats
PAGES_LOOKED_AT = 16  # for one that is no smaller copy of the first
BYTES_TOGETHER = 1 << 26  # decoded at a time
# the last one of BigTIFF, whose other byte order Pillow does not know
PREFIXES = (b"II*\0", b"MM\0*", b"II+\0")

Samples = npt.NDArray[np.generic]  # (H, W, N)
Tags = ImageFileDirectory_v2


@dataclass(frozen=True)
class Layout:
    """What the tags of a page say of its pixels."""

    width: int
    height: int
    samples: int
    dtype: np.dtype[np.generic] | None
    """Of one number, in the file's byte order; None where bits are packed, or differ from band to
    band.
    """
    bits: int
    photometric: int
    extra: tuple[int, ...]
    """Meanings of the bands beyond the colours, as far as they are told."""
    compression: int
    limits: tuple[float, float] | None
    """The least and the largest number, where the file tells them, and they are not those of the
    type.
    """

    @property
    def colours(self) -> int:
        return COLOURS.get(self.photometric, self.samples)

    @property
    def alpha(self) -> int | None:
        """ASSOCIATED or UNASSOCIATED, where the one band beyond the colours is declared so; Corel
        Draw writes 999.
        """
        known = {ASSOCIATED: ASSOCIATED, UNASSOCIATED: UNASSOCIATED, 999: UNASSOCIATED}
        return (
            known.get(self.extra[0])
            if self.samples == self.colours + 1 and len(self.extra) == 1
            else None
        )

    @property
    def is_numeric(self) -> bool:
        """Whether read_samples() can read it."""
        plain = self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        return plain and self.dtype is not None and self.compression in STREAMS

    @property
    def is_of_other_colours(self) -> bool:
        """Whether all about it is known but how its numbers show colours."""
        return (
            self.photometric not in COLOURS
            and self.dtype is not None
            and self.compression in STREAMS
        )

    def describe(self) -> str:
        bands = f"{self.samples} band{'s' * (self.samples != 1)} of {self.bits} bits"
        return (
            f"a TIFF of {bands}, photometric kind {self.photometric}, compression "
            f"{self.compression}"
        )


def is_tiff(start: bytes) -> bool:
    return start.startswith(PREFIXES)


def read_tags(file: BinaryIO) -> Tags:
    """Of the first page.

    Raises:
        Exception: they cannot be read; Pillow raises nearly anything.
    """
    file.seek(0)
    tags = ImageFileDirectory_v2(_head(file))
    file.seek(tags.next)
    tags.load(file)
    return tags


def _head(file: BinaryIO) -> bytes:
    """Twice as long in a BigTIFF, which has a `+` in place of the `*`."""
    head = file.read(8)
    return head + file.read(8) if head[2:3] == b"+" else head


def read_layout(tags: Tags) -> Layout:
    samples = int(tags.get(SAMPLES, 1))
    bits = tuple(tags.get(BITS, (1,)))
    formats = tuple(tags.get(SAMPLE_FORMAT, (1,)))
    uniform = len(set(bits)) == 1 and len(set(formats)) == 1
    return Layout(
        width=int(tags[WIDTH]),
        height=int(tags[HEIGHT]),
        samples=samples,
        dtype=_dtype(tags, bits[0], formats[0]) if uniform else None,
        bits=max(bits),
        photometric=int(tags.get(PHOTOMETRIC, 0)),
        extra=tuple(tags.get(EXTRA_SAMPLES, ())),
        compression=int(tags.get(COMPRESSION, 1)),
        limits=_limits(tags, bits[0], formats[0]),
    )


def _dtype(tags: Tags, bits: int, kind: int) -> "np.dtype[np.generic] | None":
    known = kind in TYPES and bits in ((16, 32, 64) if kind == 3 else (8, 16, 32))
    order = "<" if tags.prefix == b"II" else ">"
    return np.dtype(f"{order}{TYPES[kind]}{bits // 8}") if known else None


def _limits(tags: Tags, bits: int, kind: int) -> tuple[float, float] | None:
    """From MaxSampleValue, or SMaxSampleValue for what is signed or float; else from an odd number
    of bits.
    """
    whole = kind == 1
    low, high = (
        tags.get(tag) for tag in ((MIN_VALUE, MAX_VALUE) if whole else (MIN_NUMBER, MAX_NUMBER))
    )
    full = float(2**bits - 1)
    if high is not None:
        least = float(min(_several(low))) if low is not None else 0.0
        most = float(max(_several(high)))
        if most > least and not (whole and most >= full):
            return least, most
    return (0.0, full) if whole and bits not in (1, 8, 16, 32) else None


def _several(value: object) -> Sequence[float]:
    return value if isinstance(value, tuple) else (float(value),)  # type: ignore[arg-type]


def more_pages(tags: Tags, file: BinaryIO) -> bool:
    """Whether a second picture follows; smaller copies of the first, as pyramids have them, are
    none.
    """
    if not tags.next:
        return False
    place, seen = tags.next, {0}
    file.seek(0)
    head = _head(file)
    while place not in seen and len(seen) < PAGES_LOOKED_AT:
        seen.add(place)
        page = ImageFileDirectory_v2(head)
        file.seek(place)
        page.load(file)
        if not int(page.get(KIND_OF_PAGE, 0)) & REDUCED:
            return True
        place = page.next
    return False


def read_samples(file: BinaryIO, tags: Tags, layout: Layout, bands: Sequence[int]) -> Samples:
    """Some bands of the first page, as they are stored.

    Args:
        bands: their numbers, from 0.

    Returns:
        (H, W, len(bands)) of the layout's type, in the machine's byte order.

    Raises:
        Exception: they are damaged.
    """
    assert layout.dtype is not None, "is_numeric tells"
    out = np.empty((layout.height, layout.width, len(bands)), layout.dtype.newbyteorder("="))
    if int(tags.get(PLANAR, 1)) == SEPARATE:
        for target, band in enumerate(bands):
            for row, numbers in _stretches(file, tags, layout, band, 1):
                out[row : row + len(numbers), :, target] = numbers[..., 0]
    else:
        for row, numbers in _stretches(file, tags, layout, 0, layout.samples):
            out[row : row + len(numbers)] = numbers[..., list(bands)]
    return out


@dataclass(frozen=True)
class _Grid:
    """How a page is cut into blocks: strips, or tiles."""

    tiled: bool
    width: int
    height: int
    across: int
    down: int


def _grid(tags: Tags, layout: Layout) -> _Grid:
    tiled = TILE_OFFSETS in tags
    width = int(tags[TILE_WIDTH]) if tiled else layout.width
    strip = min(int(tags.get(ROWS_PER_STRIP, layout.height)), layout.height)
    height = int(tags[TILE_HEIGHT]) if tiled else strip
    return _Grid(tiled, width, height, -(-layout.width // width), -(-layout.height // height))


def _stretches(
    file: BinaryIO, tags: Tags, layout: Layout, plane: int, samples: int
) -> Iterator[tuple[int, Samples]]:
    """The first row of each stretch of blocks, and its (h, W, samples) numbers."""
    assert layout.dtype is not None
    grid = _grid(tags, layout)
    offsets, sizes = (tags[tag] for tag in (BLOCKS_OF_TILES if grid.tiled else BLOCKS_OF_STRIPS))
    row_bytes = grid.across * grid.width * samples * layout.dtype.itemsize
    together = max(1, BYTES_TOGETHER // (row_bytes * grid.height))
    predictor = int(tags.get(PREDICTOR, 1)) if layout.compression in PREDICTED else 1
    for first in range(0, grid.down, together):
        last = min(grid.down, first + together)
        start = plane * grid.down
        blocks = range((start + first) * grid.across, (start + last) * grid.across)
        row, rows = first * grid.height, (last - first) * grid.height
        if not grid.tiled:
            rows = min(rows, layout.height - row)
        data = [_read(file, offsets[block], sizes[block]) for block in blocks]
        raw = _unpacked(
            data, grid, row_bytes, rows, layout.compression, int(tags.get(FILL_ORDER, 1))
        )
        numbers = _numbers(raw, grid, samples, layout.dtype, predictor)
        yield row, numbers[: layout.height - row, : layout.width]


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) < size:
        raise EOFError("the file ends before its pixels do")
    return data


def _unpacked(
    blocks: list[bytes], grid: _Grid, row_bytes: int, rows: int, compression: int, fill_order: int
) -> npt.NDArray[np.uint8]:
    """(rows, row_bytes) of some blocks, whole tiles included."""
    if compression == 1 and fill_order == 1 and not grid.tiled:
        numbers = np.frombuffer(b"".join(blocks), np.uint8)
        return numbers[: rows * row_bytes].reshape(rows, row_bytes)
    file = io.BytesIO(_wrapped(blocks, grid, row_bytes, rows, compression, fill_order))
    with Image.open(file, formats=("TIFF",)) as image:
        return np.asarray(image)


def _wrapped(
    blocks: list[bytes], grid: _Grid, row_bytes: int, rows: int, compression: int, fill_order: int
) -> bytes:
    """A TIFF file of one band of bytes, with the same compressed blocks."""
    sizes = [len(block) for block in blocks]
    places = list(accumulate(sizes, initial=8))[:-1]
    tags = {WIDTH: [row_bytes], HEIGHT: [rows], BITS: [8], COMPRESSION: [compression]}
    tags |= {PHOTOMETRIC: [BLACK_IS_ZERO], FILL_ORDER: [fill_order], SAMPLES: [1]}
    if grid.tiled:
        tags |= {TILE_WIDTH: [row_bytes // grid.across], TILE_HEIGHT: [grid.height]}
        tags |= dict(zip(BLOCKS_OF_TILES, (places, sizes), strict=True))
    else:
        tags |= {ROWS_PER_STRIP: [grid.height]}
        tags |= dict(zip(BLOCKS_OF_STRIPS, (places, sizes), strict=True))
    directory = 8 + sum(sizes)
    beyond = directory + 2 + 12 * len(tags) + 4
    entries, long = b"", b""
    for tag in sorted(tags):
        packed = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        if len(packed) > 4:
            place = struct.pack("<I", beyond + len(long))
            long += packed
            packed = place
        entries += struct.pack("<HHI", tag, 4, len(tags[tag])) + packed
    head = struct.pack("<2sHI", b"II", 42, directory)
    return b"".join([head, *blocks, struct.pack("<H", len(tags)), entries, bytes(4), long])


def _numbers(
    raw: npt.NDArray[np.uint8],
    grid: _Grid,
    samples: int,
    dtype: "np.dtype[np.generic]",
    predictor: int,
) -> Samples:
    """(rows, row bytes) to (rows, padded width, samples) in the machine's byte order, differences
    added up.
    """
    rows, native = len(raw), dtype.newbyteorder("=")
    shape = (rows, grid.across, grid.width, samples)
    if predictor == FLOATING:
        sums = raw.reshape(rows, grid.across, grid.width * dtype.itemsize, samples).cumsum(
            axis=2, dtype=np.uint8
        )
        # the most significant bytes of all numbers of a row come first, then the next ones
        planes = sums.reshape(rows, grid.across, dtype.itemsize, grid.width * samples)
        ordered = np.ascontiguousarray(planes.swapaxes(2, 3)).view(dtype.newbyteorder(">"))
        return ordered.reshape(rows, -1, samples).astype(native)
    numbers = np.ascontiguousarray(raw).view(dtype).astype(native, copy=False)
    if predictor == HORIZONTAL:
        whole = np.dtype(f"u{dtype.itemsize}")
        numbers = numbers.view(whole).reshape(shape).cumsum(axis=2, dtype=whole).view(native)
    return numbers.reshape(rows, -1, samples)
