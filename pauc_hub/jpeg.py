"""Ordinary JPEGs by libjpeg-turbo itself, without Pillow's detours; other images by Pillow. H height, W width."""

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image
from PIL.ImageFile import ImageFile

from pauc_hub.images import is_upright, to_rgb

LONGEST_HEAD, LONGEST_PIXEL = 1 << 24, 8  # bytes of an ordinary JPEG: what is not the picture, and a pixel of noise
Pixels = npt.NDArray[np.uint8]  # (H, W, 3)


def decode(image: Image.Image) -> Image.Image | Pixels:
    """to_rgb(), for an image that is open and not read yet; ordinary JPEGs become arrays of the very same numbers.

    Raises:
        Exception: what to_rgb() raises.
    """
    pixels = _decode_jpeg(image) if isinstance(image, ImageFile) and is_ordinary(image) else None
    return to_rgb(image) if pixels is None else pixels


def is_ordinary(image: Image.Image) -> bool:
    """JPEG of 8 bits in colour or grey, not to be turned."""
    return image.format == "JPEG" and image.mode in ("RGB", "L") and is_upright(image)


def _decode_jpeg(image: ImageFile) -> Pixels | None:
    """None where there is anything to complain of: Pillow copes with it, or says what is wrong in its own words."""
    file = image.fp
    assert file is not None, "it has been read already"
    file.seek(0)
    longest = LONGEST_HEAD + image.width * image.height * LONGEST_PIXEL
    data = file.read(longest + 1)
    if len(data) > longest:  # much else behind the picture; Pillow reads no further than that goes
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None
