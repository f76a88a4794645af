"""Reads an image as upright RGB, or says in one line why that cannot be done."""

import ctypes
import errno
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, _imaging

from pauc_hub.images.deep import (
    TURNS,
    Deep,
    Unsupported,
    from_numbers,
    look,
    look_at_tiff,
    render_deep,
)
from pauc_hub.images.formats import (
    HEIF_HINT,
    IMAGE_FORMATS,
    begins_as,
    foreign,
    has_heif,
    is_heif,
    register_heif,
)
from pauc_hub.images.reading import PLAIN, Reading, UnknownRange
from pauc_hub.images.tiff import ORIENTATION, Tags, is_tiff, more_pages, read_layout, read_tags

# twice Pillow's MAX_IMAGE_PIXELS, where it refuses too; 100 Mpx cameras stay below
MAX_PIXELS = 2 * (1 << 30) // 12
UNREADABLE_KINDS = (
    "missing",
    "permission",
    "not_a_file",
    "empty",
    "not_an_image",
    "damaged",
    "too_large",
    "unsupported",
    "io",
)
SYSTEM_KINDS = {
    errno.ENOENT: "missing",
    errno.ELOOP: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
}
HEAD = 512  # bytes that tell what a file is
REMARKS = "pauc_hub.remarks"  # key of Pillow's `info`
FEW_LEVELS, MORE_PAGES = "few_levels", "more_pages"
_Pixels = TypeVar("_Pixels")

# else what it logs of a file would go to stderr
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableImage(Exception):
    """One image cannot be read; `kind` is one of UNREADABLE_KINDS and `message` one line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def readable(path: str | Path) -> str:
    """The path as text that can be printed and stored anywhere."""
    if isinstance(path, str) and path.isascii():
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_image(source: Path | BinaryIO, reading: Reading = PLAIN) -> Image.Image:
    """Decode the first frame, turn it upright (EXIF), lay transparency over white, make bytes of
    deeper numbers.

    Args:
        reading: which numbers are black and white where they are no bytes, and which bands are
            colours.

    Returns:
        a loaded image of mode RGB, at least 1 x 1.

    Raises:
        UnreadableImage: whatever is wrong; nothing else is raised.
    """
    return read_with(to_rgb, source, reading)


def read_with(
    decode: Callable[[Image.Image], _Pixels], source: Path | BinaryIO, reading: Reading = PLAIN
) -> _Pixels:
    """What `decode` makes of an image that Pillow has opened, and whose size is no danger.

    Args:
        reading: an image that it concerns is RGB when it comes to `decode`.

    Raises:
        UnreadableImage: whatever is wrong; nothing else is raised.
    """

    def use(opened: Opened) -> _Pixels:
        if opened.deep is None:
            assert opened.image, "what Pillow has not opened is deep"
            pixels, few = decode(opened.image), False
        else:
            rendered, few = render_deep(opened.deep, reading)
            pixels = decode(rendered)
        if isinstance(pixels, Image.Image):
            remarks = [
                remark
                for remark, holds in ((FEW_LEVELS, few), (MORE_PAGES, opened.more_pages))
                if holds
            ]
            pixels.info[REMARKS] = tuple(remarks)
        return pixels

    return _use(source, use, reading.bands)


def remarks_on(image: Image.Image) -> tuple[str, ...]:
    """What people should know of an image that was read: FEW_LEVELS, MORE_PAGES."""
    remarks = image.info.get(REMARKS, ())
    return remarks if isinstance(remarks, tuple) else ()


def read_numbers(
    source: Path | BinaryIO, bands: tuple[int, ...]
) -> tuple[str, npt.NDArray[np.generic]] | None:
    """Storage and (H, W, C) numbers of an image whose value range no file or type tells; None of
    all others.

    Raises:
        UnreadableImage: as read_with().
    """

    def use(opened: Opened) -> tuple[str, npt.NDArray[np.generic]] | None:
        if opened.deep is None or opened.deep.declared or opened.deep.storage.startswith("uint8"):
            return None
        return opened.deep.storage, opened.deep.load().values

    return _use(source, use, bands)


class Opened(NamedTuple):
    """An image of which the head was read."""

    image: Image.Image | None
    """None for what Pillow does not know, which is deep."""
    deep: Deep | None
    more_pages: bool


def _use(
    source: Path | BinaryIO, use: Callable[[Opened], _Pixels], bands: tuple[int, ...]
) -> _Pixels:
    try:
        if not isinstance(source, Path):
            return _open(source, use, bands)
        _require_file(source)
        with source.open("rb") as file:
            return _open(file, use, bands)
    except OSError as error:
        raise UnreadableImage(SYSTEM_KINDS.get(error.errno or 0, "io"), _one_line(error)) from error


def _require_file(path: Path) -> None:
    """Opening a pipe or a device would wait, perhaps for ever, so look before."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        os.scandir(path).close()  # raises the reason that find_images() met
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage("not_a_file", "a folder, pipe, socket or device, not a file")
    if found.st_size == 0:
        raise UnreadableImage("empty", "the file has no bytes")


def _open(file: BinaryIO, use: Callable[[Opened], _Pixels], bands: tuple[int, ...]) -> _Pixels:
    """Pillow's decoders raise nearly anything on damaged files, so all of it is taken for
    damage.
    """
    try:
        try:
            with Image.open(file, formats=_formats(file)) as image:
                _require_size(*image.size)
                if image.format != "TIFF":
                    return use(Opened(image, look(image, file), more_pages=False))
                _silence_libtiff()
                tags: Tags = image.tag_v2  # type: ignore[attr-defined]
                return use(Opened(image, look(image, file, bands), more_pages(tags, file)))
        except UnidentifiedImageError as error:
            return use(_without_pillow(file, bands, error))
    except UnreadableImage:
        raise
    except (Unsupported, UnknownRange) as error:
        raise UnreadableImage("unsupported", str(error)) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnreadableImage("too_large", _one_line(error)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the system; Pillow's own have no number
            raise
        raise UnreadableImage("damaged", _one_line(error)) from error


def _formats(file: BinaryIO) -> tuple[str, ...]:
    if not has_heif() or not is_heif(file.read(HEAD)):
        return IMAGE_FORMATS
    register_heif()
    return (*IMAGE_FORMATS, "HEIF")


def _without_pillow(
    file: BinaryIO, bands: tuple[int, ...], error: UnidentifiedImageError
) -> Opened:
    """A TIFF whose bands Pillow does not know."""
    file.seek(0)
    if not is_tiff(file.read(8)):
        raise _unidentified(file) from error
    try:
        tags = read_tags(file)
        layout = read_layout(tags)
    except Exception as damage:  # Pillow raises nearly anything
        raise _unidentified(file) from damage
    _require_size(layout.width, layout.height)
    _silence_libtiff()
    deep = look_at_tiff(file, tags, layout, bands)
    if deep is None and layout.is_of_other_colours:
        raise Unsupported(f"{layout.describe()}, which has no known way to RGB")
    if deep is None:
        raise _unidentified(file) from error
    return Opened(None, deep, more_pages(tags, file))


@cache
def _silence_libtiff() -> None:
    """Pillow turns its errors into exceptions; it prints them on stderr all the same, unless told
    otherwise.
    """
    with suppress(OSError, AttributeError):  # a Pillow whose libtiff is out of reach
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _unidentified(file: BinaryIO) -> UnreadableImage:
    """Pillow says the same of a text and of a photo that was cut or is of a rare kind, so look how
    the file begins.
    """
    file.seek(0)
    start = file.read(HEAD)
    if form := begins_as(start[:16]):
        return UnreadableImage(
            "damaged", f"it begins as {form}, but is broken, or of a kind that Pillow cannot read"
        )
    if is_heif(start) and has_heif():
        return UnreadableImage("damaged", "it begins as HEIC, but is broken")
    if is_heif(start):
        return UnreadableImage(
            "not_an_image",
            f"a HEIC image, which needs a package that is not installed: {HEIF_HINT}",
        )
    if told := foreign(start):
        return UnreadableImage("not_an_image", told)
    return UnreadableImage(
        "not_an_image", f"not an image of a known format ({', '.join(IMAGE_FORMATS)})"
    )


def _require_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            "too_large", f"{width} x {height} pixels; the limit is {MAX_PIXELS} in all"
        )
    if width * height == 0:
        raise UnreadableImage("damaged", f"{width} x {height} pixels")


def to_rgb(image: Image.Image, reading: Reading = PLAIN) -> Image.Image:
    """An image as it is meant to be seen: upright, over white, in 8-bit RGB.

    Raises:
        UnreadableImage: a colour space without a known way to RGB, or numbers of an unknown range.
    """
    # before its orientation is asked for: Pillow turns a TIFF here, and takes the tag away
    image.load()
    if deep := look(image, None):
        return _rendered(deep, reading)
    if image.mode in ("P", "PA") and image.palette is None:
        raise UnreadableImage("damaged", "its pixels are numbers of a palette, and it has none")
    image = _upright(image)
    try:
        if image.has_transparency_data:
            image = image if image.mode == "RGBA" else image.convert("RGBA")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image)
            return white
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise UnreadableImage(
            "unsupported", f"colours of mode {image.mode} have no known way to RGB"
        ) from error


def from_array(array: npt.NDArray[np.generic], reading: Reading = PLAIN) -> Image.Image:
    """RGB from an array: (H, W) grey of any integers or floats; (H, W, 3) RGB or (H, W, 4) RGBA of
    uint8.

    Raises:
        UnreadableImage: of another shape or type, or numbers of an unknown range.
    """
    kind = array.dtype.name
    colour = array.ndim == 3 and array.shape[2] in (3, 4) and kind == "uint8"
    if array.size == 0 or array.dtype.kind not in "uif" or not (colour or array.ndim == 2):
        raise UnreadableImage(
            "unsupported",
            (
                f"an array of shape {array.shape} and type {kind}; give (H, W, 3) uint8 in RGB "
                "order, or (H, W) for grey"
            ),
        )
    if kind == "uint8":
        return to_rgb(Image.fromarray(array))
    return _rendered(from_numbers(array), reading)


def _rendered(deep: Deep, reading: Reading) -> Image.Image:
    try:
        image, few = render_deep(deep, reading)
    except UnknownRange as error:
        raise UnreadableImage("unsupported", str(error)) from error
    image.info[REMARKS] = (FEW_LEVELS,) if few else ()
    return image


def is_upright(image: Image.Image) -> bool:
    """Whether it is to be seen as it is stored."""
    return _turn(image) is None


def _upright(image: Image.Image) -> Image.Image:
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data that cannot be parsed say nothing about the pixels
        return None


def _one_line(error: Exception) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    text = text or f"Pillow cannot decode it ({type(error).__name__})"
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
