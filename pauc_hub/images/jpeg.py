"""Ordinary JPEGs by libjpeg-turbo itself, without Pillow's detours; other images by Pillow. H
height, W width.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image
from PIL.ImageFile import ImageFile

from pauc_hub.images.decoding import is_upright, to_rgb
from pauc_hub.images.tiff import ORIENTATION

# bytes of an ordinary JPEG: what is not the picture, and a pixel of noise
LONGEST_HEAD, LONGEST_PIXEL = 1 << 24, 8
Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Picture = Image.Image | Pixels  # ordinary JPEGs are arrays
REDUCTIONS = (8, 4, 2)  # of both sides; the decoder has others, which take longer than no reduction
SPARE = 2  # what a reduced side has to be, at least, over what it will be resized to
FIRST_ON_ITS_SIDE = 5  # of the EXIF orientations: from here on width and height change places


class Reduced(NamedTuple):
    """A large photograph that was decoded smaller than it is."""

    pixels: Pixels
    size: tuple[int, int]  # width, height of the whole, as seen


def size_of(picture: Picture) -> tuple[int, int]:
    """Width, height."""
    return (
        picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])
    )


def decode(image: Image.Image) -> Picture:
    """to_rgb(), for an image that is open and not read yet; ordinary JPEGs become arrays of the
    very same numbers.

    Raises:
        Exception: what to_rgb() raises.
    """
    pixels = _decode_jpeg(image) if is_ordinary(image) and is_upright(image) else None
    return to_rgb(image) if pixels is None else pixels


def decode_reduced(
    image: Image.Image, short_side: int, otherwise: Callable[[Image.Image], Picture]
) -> Picture | Reduced:
    """A large JPEG at a half, a quarter or an eighth of its sides, which spares most of the work;
    others `otherwise`.

    Args:
        image: open and not read yet.
        short_side: that the image will be resized to; pixels.

    Raises:
        Exception: what to_rgb() raises.
    """
    factor = next(
        (factor for factor in REDUCTIONS if min(image.size) >= factor * SPARE * short_side), 1
    )
    if factor == 1 or not is_ordinary(image):
        return otherwise(image)
    width, height = image.size
    if not is_upright(image):
        on_its_side = image.getexif()[ORIENTATION] >= FIRST_ON_ITS_SIDE
        image.draft(image.mode, (width // factor, height // factor))
        return Reduced(np.array(to_rgb(image)), (height, width) if on_its_side else (width, height))
    pixels = _decode_jpeg(image, factor)
    return otherwise(image) if pixels is None else Reduced(pixels, (width, height))


def is_ordinary(image: Image.Image) -> bool:
    """A file with a JPEG of 8 bits in colour or grey."""
    return isinstance(image, ImageFile) and image.format == "JPEG" and image.mode in ("RGB", "L")


def _decode_jpeg(image: Image.Image, factor: int = 1) -> Pixels | None:
    """None where there is anything to complain of: Pillow copes with it, or says what is wrong in
    its own words.
    """
    assert isinstance(image, ImageFile)
    assert image.fp is not None, "it has been read already"
    image.fp.seek(0)
    longest = LONGEST_HEAD + image.width * image.height * LONGEST_PIXEL
    data = image.fp.read(longest + 1)
    if len(data) > longest:  # much else behind the picture; Pillow reads no further than that goes
        return None
    # rounded up, as the decoder does
    height, width = -(-image.height // factor), -(-image.width // factor)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, min_height=height, min_width=width, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (height, width) else None
