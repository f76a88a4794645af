"""The streaming engine: images are decoded ahead in threads, embedded in batches. N images, S side,
D width.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pauc_hub.errors import Note, PaucError, UsageError
from pauc_hub.images.decoding import (
    FEW_LEVELS,
    UnreadableImage,
    from_array,
    read_with,
    readable,
    remarks_on,
    to_rgb,
)
from pauc_hub.images.jpeg import Picture, Reduced, decode, decode_reduced
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.inference.features import features
from pauc_hub.threads import decode_ahead

# decoded squares that wait for the network: enough to keep it busy, little memory
BATCHES_AHEAD = 2
DECODINGS = ("exact", "scaled")

ImageLike = str | Path | bytes | Image.Image | npt.NDArray[np.generic]
Decoder = Callable[[Image.Image], Picture | Reduced]


class BatchEncoder(Protocol):
    """What the engine needs of a model; pauc_hub.Model is one."""

    @property
    def name(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def precision(self) -> str: ...
    def width_in(self, space: str) -> int:
        """D of a space; refuses a space that the model does not have."""

    def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
        """(N, S, S, 3) uint8 on any device to (N, D) float32."""


class Decoded(NamedTuple):
    """An image on its way to the network."""

    name: str
    square: npt.NDArray[np.uint8]  # (S, S, 3)
    size: tuple[int, int]  # width, height as seen
    remarks: tuple[str, ...] = ()
    """What people should know of it, as images.decoding has it."""


def embed_images(
    encoder: BatchEncoder,
    images: Iterable[ImageLike],
    *,
    space: str = "backbone",
    batch_size: int = 64,
    workers: int | None = None,
    decoding: str = "exact",
    reading: Reading = PLAIN,
) -> npt.NDArray[np.float32]:
    """Embed paths, encoded bytes, PIL images and arrays, in their order.

    Args:
        decoding: as for choose_decoder().
        reading: which numbers are black and white where they are no bytes, and which bands are
            colours.

    Returns:
        (N, D) float32; N may be 0.

    Raises:
        PaucError: an image cannot be read; the line says which.
        TypeError: something that is no image; likewise.
    """
    decoder = choose_decoder(encoder, decoding)

    def read(numbered: tuple[int, ImageLike]) -> Decoded:
        index, source = numbered
        name = f"image {index}" + (
            f" ('{readable(source)}')" if isinstance(source, str | Path) else ""
        )
        decoded = square(name, open_image(name, source, decoder, reading), encoder.preprocessing)
        if FEW_LEVELS in decoded.remarks:
            warnings.warn(
                f"{name} ends in few levels of grey: does its value range fit?",
                Note,
                stacklevel=2,
            )
        return decoded

    parts = [np.empty((0, encoder.width_in(space)), dtype=np.float32)]
    with closing(
        decode_ahead(read, enumerate(images), workers, BATCHES_AHEAD * batch_size)
    ) as results:
        groups = iter(lambda: list(islice(results, batch_size)), [])
        parts += [
            rows.numpy() for rows, _ in features(batch_encoder(encoder, space), groups, lanes=1)
        ]
    return np.concatenate(parts)


def choose_decoder(encoder: BatchEncoder, decoding: str = "exact") -> Decoder:
    """fp32 promises what Pillow gives, to the last bit; bf16 rounds more than a quicker decoder
    does.

    Args:
        decoding: `exact`, or `scaled` for large JPEGs at a fraction of their sides, quicker and
            less exact.

    Raises:
        UsageError: neither.
    """
    if decoding not in DECODINGS:
        raise UsageError(f"unknown decoding '{decoding}'. Use one of {', '.join(DECODINGS)}.")
    exact = to_rgb if encoder.precision == "fp32" else decode
    if decoding == "exact":
        return exact
    return partial(decode_reduced, short_side=encoder.preprocessing.short_side, otherwise=exact)


def square(name: str, image: Picture | Reduced, preprocessing: Preprocessing) -> Decoded:
    """Make a picture ready for the network."""
    match image:
        case Image.Image():
            return Decoded(name, preprocessing.square(image), image.size, remarks_on(image))
        case Reduced():
            return Decoded(name, preprocessing.quick_square(*image), image.size)
    height, width, _ = image.shape
    return Decoded(name, preprocessing.quick_square(image), (width, height))


def batch_encoder(encoder: BatchEncoder, space: str) -> Callable[[Sequence[Decoded]], torch.Tensor]:
    """What features() does to a batch: N decoded images to (N, D), also where N is 0."""
    width = encoder.width_in(space)

    def encode(images: Sequence[Decoded]) -> torch.Tensor:
        if not images:
            return torch.empty((0, width))
        squares = torch.from_numpy(np.stack([image.square for image in images]))
        try:
            return encoder.encode(squares, space)
        except torch.OutOfMemoryError as error:
            raise PaucError(
                f"batch_size={len(images)} does not fit the GPU. Give a smaller one."
            ) from error

    return encode


def open_image(
    name: str, source: ImageLike, decoder: Decoder, reading: Reading = PLAIN
) -> Picture | Reduced:
    """The picture at a path, in encoded bytes, or in memory already.

    Args:
        name: for messages.
        reading: which numbers are black and white where they are no bytes, and which bands are
            colours.

    Raises:
        PaucError: it cannot be read.
        TypeError: it is no image.
    """
    try:
        match source:
            case str() | Path():
                path = Path(source).expanduser()
                if path.is_dir():
                    raise UsageError(
                        f"{name} is a folder, not an image. For folders there is `pauc embed "
                        f"{source}`."
                    )
                return read_with(decoder, path, reading)
            case bytes():
                return read_with(decoder, io.BytesIO(source), reading)
            case Image.Image():
                return to_rgb(source, reading)
            case np.ndarray():
                return from_array(source, reading)
    # an OSError where a PIL image is read as late as here
    except (UnreadableImage, OSError) as error:
        raise PaucError(f"{name} cannot be read: {error}.") from error
    raise TypeError(
        f"{name} is a {type(source).__name__}, not a path, encoded bytes, a PIL image or an array"
    )
