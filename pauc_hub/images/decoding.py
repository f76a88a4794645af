"""Images on disk: find them, and read each as upright RGB or say in one line why that cannot be done."""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, _imaging

from pauc_hub.errors import NoImages, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
MAX_PIXELS = 2 * (1 << 30) // 12  # twice Pillow's MAX_IMAGE_PIXELS, where it refuses too; 100 Mpx cameras stay below
KINDS = ("missing", "permission", "not_a_file", "empty", "not_an_image", "damaged", "too_large", "unsupported", "io")
SYSTEM_KINDS = {
    errno.ENOENT: "missing",
    errno.ELOOP: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
}
BAND_PIXELS = 1 << 20  # of an image with more than 8 bits that are scaled at once
Pixels = TypeVar("Pixels")


class UnreadableImage(Exception):
    """One image cannot be read; `kind` is one of KINDS and `message` one line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, order=True)
class ImageFile:
    name: str
    """Path below the root with `/` between its parts; bytes that are not UTF-8 as `\\xNN`."""
    place: str
    """The path as the system takes it: text, since a million Paths take longer to make than to find."""

    @property
    def path(self) -> Path:
        return Path(self.place)

    def open(self) -> Path:
        """For read_with(), which looks at the file before it opens it."""
        return self.path

    def modified(self) -> float:
        """Seconds since 1970.

        Raises:
            OSError: it is not there, or may not be looked at.
        """
        return self.path.stat().st_mtime


def find_images(root: Path) -> list[ImageFile]:
    """All files below `root` that are named like images, sorted by name; `root` may also be one file of any name.

    Whether a file is any good shows when it is read.

    Raises:
        UsageError: there is nothing at `root`.
        NoImages: a folder with nothing to read.
    """
    if not root.exists():
        raise UsageError(f"no such file or folder: '{readable(root)}'")
    if not root.is_dir():
        return [ImageFile(readable(root.name), str(root))]
    images = list(walk(root))
    if not images:
        raise NoImages(f"no images in '{readable(root)}': no file there ends in {', '.join(sorted(SUFFIXES))}.")
    return images


def readable(path: str | Path) -> str:
    """The path as text that can be printed and stored anywhere."""
    if isinstance(path, str) and path.isascii():
        return path
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(root: Path, suffixes: Iterable[str] = SUFFIXES) -> Iterator[ImageFile]:
    """The files below a folder whose names end so, in the order of their names, found while they are asked for.

    Held at any time are the names in one folder and in those above it. Symbolic links are followed, also those to
    folders, but never into a folder they lie in. Hidden files and folders are skipped. A folder that cannot be listed
    is handed on as if it were a file, so that reading it tells why; its name ends in `/`.
    """
    endings = tuple(suffixes)
    try:
        levels = [_list("", str(root), frozenset(), endings)]
    except OSError:
        yield ImageFile(".", str(root))
        return
    while levels:
        level = levels[-1]
        if not level.left:
            levels.pop()
            continue
        last = level.left.pop()
        name, path = level.name + readable(last), f"{level.path}/{last}"
        if not last.endswith("/"):
            yield ImageFile(name, path)
            continue
        try:
            levels.append(_list(name, path, level.inside, endings))
        except OSError:
            yield ImageFile(name, path)


class _Level(NamedTuple):
    """A folder on the way of a walk."""

    name: str
    path: str
    inside: frozenset[tuple[int, int]]
    """Identities of the folder and of those above it."""
    left: list[str]
    """What is in it and was not visited yet, the next one last; folders end in `/`."""


def _list(name: str, path: str, above: frozenset[tuple[int, int]], endings: tuple[str, ...]) -> _Level:
    here = _identity(path)
    if here in above:
        return _Level(name, path, above, [])
    with os.scandir(path) as entries:
        shown = (entry for entry in entries if not entry.name.startswith("."))
        marked = (entry.name + "/" if _is_folder(entry) else entry.name for entry in shown)
        left = [name for name in marked if name.endswith("/") or name.lower().endswith(endings)]
    left.sort(key=readable, reverse=True)  # with their `/`, folders stand where the names of their files do
    return _Level(name, path, above | {here}, left)


def _identity(folder: str) -> tuple[int, int]:
    found = Path(folder).stat()
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def read_image(source: Path | BinaryIO) -> Image.Image:
    """Decode the first frame, turn it upright (EXIF), lay transparency over white, scale 16-bit and float to bytes.

    Returns:
        a loaded image of mode RGB, at least 1 x 1.

    Raises:
        UnreadableImage: whatever is wrong; nothing else is raised.
    """
    return read_with(to_rgb, source)


def read_with(decode: Callable[[Image.Image], Pixels], source: Path | BinaryIO) -> Pixels:
    """What `decode` makes of an image that Pillow has opened, and whose size is no danger.

    Raises:
        UnreadableImage: whatever is wrong; nothing else is raised.
    """
    try:
        if not isinstance(source, Path):
            return _open(source, decode)
        _require_file(source)
        with source.open("rb") as file:
            return _open(file, decode)
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


def _open(file: BinaryIO, decode: Callable[[Image.Image], Pixels]) -> Pixels:
    """Pillow's decoders raise nearly anything on damaged files, so all of it is taken for damage."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            _require_size(image)
            if image.format == "TIFF":
                _silence_libtiff()
            return decode(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(file) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnreadableImage("too_large", _one_line(error)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the system; Pillow's own have no number
            raise
        raise UnreadableImage("damaged", _one_line(error)) from error


@cache
def _silence_libtiff() -> None:
    """Pillow turns its errors into exceptions; it prints them on stderr all the same, unless told otherwise."""
    with suppress(OSError, AttributeError):  # a Pillow whose libtiff is out of reach
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _unidentified(file: BinaryIO) -> UnreadableImage:
    """Pillow says the same of a text and of a photo that was cut or is of a rare kind, so look how the file begins."""
    file.seek(0)
    start = file.read(16)
    for form in FORMATS:
        _, accepts = Image.OPEN[form]
        if accepts and accepts(start):
            return UnreadableImage(
                "damaged", f"it begins as {form}, but is broken, or of a kind that Pillow cannot read"
            )
    return UnreadableImage("not_an_image", f"not an image of a known format ({', '.join(FORMATS)})")


def _require_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage("too_large", f"{width} x {height} pixels; the limit is {MAX_PIXELS} in all")
    if width * height == 0:
        raise UnreadableImage("damaged", f"{width} x {height} pixels")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as it is meant to be seen: upright, over white, in 8-bit RGB.

    Raises:
        UnreadableImage: a colour space without a known way to RGB.
    """
    image.load()  # before its orientation is asked for: Pillow turns a TIFF here, and takes the tag away
    image = _upright(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _grey(image)
    try:
        if image.has_transparency_data:
            image = image if image.mode == "RGBA" else image.convert("RGBA")
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image)
            return white
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise UnreadableImage("unsupported", f"colours of mode {image.mode} have no known way to RGB") from error


def from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """RGB from an array: (H, W) grey of uint8, uint16 or float; (H, W, 3) RGB or (H, W, 4) RGBA of uint8.

    Raises:
        UnreadableImage: of another shape or type.
    """
    kind = array.dtype.name
    colour = array.ndim == 3 and array.shape[2] in (3, 4) and kind == "uint8"
    grey = array.ndim == 2 and kind in ("uint8", "uint16", "float32", "float64")
    if array.size == 0 or not (colour or grey):
        raise UnreadableImage(
            "unsupported",
            f"an array of shape {array.shape} and type {kind}; give (H, W, 3) uint8 in RGB order, or (H, W) for grey",
        )
    return to_rgb(Image.fromarray(array.astype(np.float32) if kind == "float64" else array))


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF tag


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


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey of 16-bit, integer or float grey. Not a number is black; infinite is the least or largest number."""
    values = np.asarray(image)
    low, high = _extremes(values)
    black, contrast = (0.0, 65535.0) if image.mode.startswith("I;16") else _guess_range(low, high)
    grey = np.empty(values.shape, dtype=np.uint8)
    for rows in _bands(values):
        band = np.nan_to_num(values[rows].astype(np.float64), nan=low, posinf=high, neginf=low)
        grey[rows] = np.rint((band - black) * (255 / contrast))
    return Image.fromarray(grey, mode="L")


def _extremes(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Of the finite numbers; 0 and 0 where there are none."""
    low, high = np.inf, -np.inf
    for rows in _bands(values):
        band = values[rows].astype(np.float64)
        finite = np.isfinite(band)
        low = min(low, float(band.min(where=finite, initial=np.inf)))
        high = max(high, float(band.max(where=finite, initial=-np.inf)))
    return (low, high) if low <= high else (0.0, 0.0)


def _guess_range(low: float, high: float) -> tuple[float, float]:
    """Where black is, and how far above it white: at 1, 255 or 65535 if that holds all values, else at the largest."""
    for ceiling in (1.0, 255.0, 65535.0):
        if low >= 0 and high <= ceiling:
            return 0.0, ceiling
    return low, (high - low) or 1.0


def _bands(values: npt.NDArray[np.generic]) -> Iterator[slice]:
    """Some rows at a time: as float64 all of a large image would take ten times its own memory."""
    step = max(1, BAND_PIXELS // values.shape[1])
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _one_line(error: Exception) -> str:
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
