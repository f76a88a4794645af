"""Small JPEGs of images, to stand inside an HTML file."""

import base64
import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pauc_hub.images.decoding import read_image
from pauc_hub.images.reading import Reading


def thumbnail(source: Path | BinaryIO, reading: Reading, *, side: int, quality: int) -> str:
    """A JPEG in base64.

    Args:
        side: the longer one, in pixels.
        quality: of the JPEG, from 1 to 95.

    Raises:
        UnreadableImage: it cannot be read (any more).
    """
    image = read_image(source, reading)
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode()
