"""Images of more than 8 bits, or of chosen bands: their numbers, and the 8-bit RGB that a Reading
makes of them.

H height, W width, C 1 (grey) or 3 (red, green, blue).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pauc_hub.images import tiff
from pauc_hub.images.reading import SIXTEEN_BITS, Range, Reading

_Array = npt.NDArray[np.generic]
ENOUGH_LEVELS = 32  # of 256; 12 bits taken for 16 leave 16
# scaled at once: as float64, a large image would take several times its own memory
PIXELS_TOGETHER = 1 << 20
STRETCHED = ("JPEG2000", "PPM")  # formats of which Pillow scales what has more than 8 bits to 16
MODES = {"I": "int32", "F": "float32"}  # of Pillow
LONGEST_HEAD = 1 << 16  # bytes of a PNG in which sBIT is looked for


class Unsupported(Exception):
    """The file is intact, but there is no way from its bands to RGB; says how many there are."""


class DeepPixels(NamedTuple):
    """Decoded pixels."""

    values: _Array  # (H, W, C)
    opacity: npt.NDArray[np.uint8] | None = None  # (H, W)
    premultiplied: bool = False
    """Whether the values are multiplied by the opacity already."""
    white_is_low: bool = False
    turn: int = 1
    """EXIF orientation that is still to be applied."""


@dataclass(frozen=True)
class Deep:
    """A deep image, of which nothing but the head was read."""

    storage: str
    """Type of its numbers: `uint16`, `float32`, `uint16 of 12 bits` where a PNG tells that, `uint16
    x 3` in colour.
    """
    declared: Range | None
    """Black and white, as the file says."""
    load: Callable[[], DeepPixels]


def look(image: Image.Image, file: BinaryIO | None, bands: Sequence[int] = ()) -> Deep | None:
    """What is deep of an image that Pillow has opened; None where Pillow itself makes RGB of it.

    Args:
        file: that it was opened from, if it was.
        bands: of a TIFF, as in Reading.

    Raises:
        Unsupported: of bands without a meaning.
    """
    declared = None
    if file and image.format == "TIFF":
        layout = tiff.read_layout(image.tag_v2)  # type: ignore[attr-defined]
        found = look_at_tiff(file, image.tag_v2, layout, bands)  # type: ignore[attr-defined]
        if found:
            return found
        declared = layout.limits
    if (
        file
        and image.format == "PNG"
        and image.mode in ("RGB", "RGBA")
        and _raw_mode(image).endswith(";16B")
    ):
        colours = 1 if _raw_mode(image).startswith("LA") else 3
        return Deep(
            _named("uint16" + _significant_bits(file), colours),
            None,
            partial(_load_png, image, file),
        )
    if not (image.mode.startswith("I;16") or image.mode in MODES):
        return None
    storage = MODES.get(image.mode, "uint16")
    if file and image.format == "PNG":
        storage += _significant_bits(file)
    if image.format in STRETCHED and image.mode != "F":
        declared = SIXTEEN_BITS
    return Deep(storage, declared, partial(_load_grey, image))


def look_at_tiff(
    file: BinaryIO, tags: tiff.Tags, layout: tiff.Layout, bands: Sequence[int]
) -> Deep | None:
    """As look(), also for files that Pillow does not open."""
    plain = layout.photometric in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB)
    if bands and plain:
        if max(bands) > layout.samples:
            count = f"{layout.samples} band{'s' * (layout.samples != 1)}"
            raise Unsupported(f"{count}, of which band {max(bands)} was asked for")
        chosen = [band - 1 for band in bands]
    else:
        if layout.samples > layout.colours and layout.alpha is None:
            raise Unsupported(
                f"{layout.samples} bands: beyond {layout.colours} of colour, not one alone is "
                "declared transparency; "
                "choose the three to show, such as bands 3,2,1"
            )
        chosen = list(range(layout.colours))
    if not layout.is_numeric or (layout.dtype == np.uint8 and not bands):
        return None
    assert layout.dtype is not None
    storage = _named(layout.dtype.newbyteorder("=").name, len(chosen))
    return Deep(
        storage,
        layout.limits,
        partial(_load_tiff, file, tags, layout, chosen, with_alpha=not bands),
    )


def render_deep(deep: Deep, reading: Reading) -> tuple[Image.Image, bool]:
    """8-bit RGB, upright, over white; and whether few levels of grey are left of many.

    Raises:
        UnknownRange: nothing tells which numbers are black and white.
        Exception: the file is damaged.
    """
    numbers = deep.load()
    low, high = reading.range_of(deep.storage, deep.declared, numbers.values)
    scaled = _scaled(numbers.values, low, high)
    few = _has_lost_levels(scaled, numbers.values)
    if numbers.white_is_low:
        scaled = 255 - scaled
    image = Image.fromarray(scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2))
    if numbers.opacity is not None:
        image = _over_white(image, numbers.opacity, premultiplied=numbers.premultiplied)
    return (image if numbers.turn not in TURNS else image.transpose(TURNS[numbers.turn])), few


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def from_numbers(array: _Array) -> Deep:
    """An array of (H, W) numbers."""
    return Deep(array.dtype.name, None, partial(DeepPixels, array[..., None]))


def _named(storage: str, colours: int) -> str:
    return storage + (f" x {colours}" if colours > 1 else "")


def _scaled(values: _Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Not a number is black."""
    out = np.empty(values.shape, np.uint8)
    for rows in _some_rows(values):
        some = np.nan_to_num(values[rows].astype(np.float64), nan=low, posinf=high, neginf=low)
        out[rows] = np.rint((some.clip(low, high) - low) * (255 / (high - low)))
    return out


def _some_rows(values: _Array) -> Iterator[slice]:
    step = max(1, PIXELS_TOGETHER // (values.shape[1] * values.shape[2]))
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _has_lost_levels(scaled: npt.NDArray[np.uint8], values: _Array) -> bool:
    levels = np.count_nonzero(np.bincount(scaled.ravel(), minlength=256))
    return bool(levels < ENOUGH_LEVELS and levels < len(np.unique(values[np.isfinite(values)])))


def _over_white(
    image: Image.Image, opacity: npt.NDArray[np.uint8], *, premultiplied: bool
) -> Image.Image:
    if premultiplied:
        sums = np.asarray(image).astype(np.int16) + (255 - opacity.astype(np.int16))[..., None]
        return Image.fromarray(sums.clip(0, 255).astype(np.uint8))
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=Image.fromarray(opacity))
    return white


def _load_grey(image: Image.Image) -> DeepPixels:
    values = np.asarray(image)[..., None]
    return DeepPixels(values, _keyed(values, image.info.get("transparency")), turn=_turn(image))


def _turn(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(tiff.ORIENTATION, 1))
    except Exception:  # EXIF data that cannot be parsed say nothing about the pixels
        return 1


def _keyed(values: _Array, transparent: object) -> npt.NDArray[np.uint8] | None:
    """Opacity where one colour is declared transparent."""
    if not isinstance(transparent, int | tuple):
        return None
    return np.where((values == np.asarray(transparent)).all(axis=2), np.uint8(0), np.uint8(255))


def _load_tiff(
    file: BinaryIO, tags: tiff.Tags, layout: tiff.Layout, bands: Sequence[int], *, with_alpha: bool
) -> DeepPixels:
    alpha = layout.alpha if with_alpha else None
    turn = int(tags.get(tiff.ORIENTATION, 1))
    samples = tiff.read_samples(file, tags, layout, [*bands, layout.colours] if alpha else bands)
    values, opacity = samples[..., : len(bands)], None
    if alpha:
        full = 1.0 if values.dtype.kind == "f" else float(2 ** (8 * values.dtype.itemsize) - 1)
        opacity = _scaled(samples[..., len(bands) :], 0.0, full)[..., 0]
    inverted = layout.photometric == tiff.WHITE_IS_ZERO
    return DeepPixels(values, opacity, alpha == tiff.ASSOCIATED, white_is_low=inverted, turn=turn)


def _raw_mode(image: Image.Image) -> str:
    """What Pillow takes the bytes of a PNG for."""
    tiles = getattr(image, "tile", ())
    return str(tiles[0].args) if tiles else ""


def _load_png(image: Image.Image, file: BinaryIO) -> DeepPixels:
    """16 bits a band: Pillow reads the more significant bytes alone, and in the other byte order
    the others alone.
    """
    transparent, raw = image.info.get("transparency"), _raw_mode(image)
    if raw == "LA;16B":
        both = _decoded(image, "RGBA").astype(np.uint16)
        grey, alpha = both[..., 0] << 8 | both[..., 1], both[..., 2]
        return DeepPixels(grey[..., None], alpha.astype(np.uint8), turn=_turn(image))
    high = _decoded(image, raw)
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as again:
        low = _decoded(again, raw.replace(";16B", ";16L"))
    values = high[..., :3].astype(np.uint16) << 8 | low[..., :3]
    opacity = high[..., 3] if high.shape[2] == 4 else _keyed(values, transparent)
    return DeepPixels(values, opacity, turn=_turn(image))


def _decoded(image: Image.Image, raw_mode: str) -> npt.NDArray[np.uint8]:
    image.tile = [tile._replace(args=raw_mode) for tile in image.tile]  # type: ignore[attr-defined]
    image.info.pop("transparency", None)  # of 16 bits, which loading would compare with 8
    return np.asarray(image)


def _significant_bits(file: BinaryIO) -> str:
    """` of 12 bits` where a PNG's sBIT says that the 16 hold no more; it stands before the
    pixels.
    """
    file.seek(0)
    head, place = file.read(LONGEST_HEAD), 8
    while place + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, place)
        if kind == b"sBIT":
            bits = max(head[place + 8 : place + 8 + length], default=16)
            return f" of {bits} bits" if 8 < bits < 16 else ""
        if kind in (b"PLTE", b"IDAT"):
            break
        place += 12 + length
    return ""
