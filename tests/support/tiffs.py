"""TIFFs as scientific tools write them, and Pillow does not: of any type, in strips or in tiles."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np


def write_tiff(
    path: Path,
    pixels: np.ndarray[Any, Any],
    *,
    photometric: int = 1,
    deflate: bool = False,
    predictor: int = 1,
    tile: int = 0,
    planar: int = 1,
    tags: Mapping[int, Sequence[int]] | None = None,
    big: bool = False,
) -> Path:
    """A TIFF of (H, W, N) pixels in strips of 16 rows, or in tiles of so many pixels a side."""
    height, width, samples = pixels.shape
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    blocks = tiff_blocks(pixels, predictor, tile, planar)
    blocks = [zlib.compress(block) for block in blocks] if deflate else blocks
    places = list(accumulate(map(len, blocks), initial=16 if big else 8))
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    fields: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [8 * pixels.dtype.itemsize] * samples,
    }
    fields |= {259: [8 if deflate else 1], 262: [photometric], 277: [samples], 284: [planar]}
    fields |= {317: [predictor], 339: [kind] * samples}
    sizes = [len(block) for block in blocks]
    if tile:
        fields |= {322: [tile], 323: [tile], 324: places[:-1], 325: sizes}
    else:
        fields |= {273: places[:-1], 278: [16], 279: sizes}
    directory = tiff_directory(fields | dict(tags or {}), places[-1], order, big)
    mark = b"II" if order == "<" else b"MM"
    first = (
        struct.pack(f"{order}HHHQ", 43, 8, 0, places[-1])
        if big
        else struct.pack(f"{order}HI", 42, places[-1])
    )
    path.write_bytes(mark + first + b"".join(blocks) + directory)
    return path


def tiff_blocks(
    pixels: np.ndarray[Any, Any], predictor: int, tile: int, planar: int
) -> list[bytes]:
    """Strips of 16 rows, or tiles, band after band where they are kept apart."""
    rows, columns = (tile, tile) if tile else (16, pixels.shape[1])
    if tile:
        pixels = np.pad(
            pixels, ((0, -pixels.shape[0] % tile), (0, -pixels.shape[1] % tile), (0, 0)), "edge"
        )
    planes = (
        [pixels]
        if planar == 1
        else [pixels[..., band : band + 1] for band in range(pixels.shape[2])]
    )
    return [
        tiff_differences(plane[y : y + rows, x : x + columns], predictor)
        for plane in planes
        for y in range(0, len(pixels), rows)
        for x in range(0, pixels.shape[1], columns)
    ]


def tiff_differences(block: np.ndarray[Any, Any], predictor: int) -> bytes:
    """A block (rows, width, samples), each number less the one before it; or, of floats, the bytes
    so.
    """
    order = block.dtype.byteorder
    if predictor == 3:
        ordered = (
            block.astype(block.dtype.newbyteorder(">")).reshape(len(block), -1, 1).view(np.uint8)
        )
        block = ordered.swapaxes(1, 2).reshape(len(block), -1, block.shape[2])
    elif predictor == 2:
        block = block.astype(block.dtype.newbyteorder("=")).view(f"u{block.dtype.itemsize}")
    if predictor > 1:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    return block.astype(block.dtype.newbyteorder(order)).tobytes()


def tiff_directory(fields: Mapping[int, Sequence[int]], place: int, order: str, big: bool) -> bytes:
    """Tags at a place in the file, and behind them the values that have no room there."""
    count, offset = ("Q", "Q") if big else ("H", "I")
    room, entries, beyond = struct.calcsize(f"<{offset}"), b"", b""
    start = place + struct.calcsize(f"<{count}") + len(fields) * (4 + 2 * room) + room
    for tag, values in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > room:
            beyond, packed = beyond + packed, struct.pack(f"{order}{offset}", start + len(beyond))
        entries += struct.pack(f"{order}HH{offset}", tag, 4, len(values)) + packed.ljust(
            room, b"\0"
        )
    return struct.pack(f"{order}{count}", len(fields)) + entries + bytes(room) + beyond
