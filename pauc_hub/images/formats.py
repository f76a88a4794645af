"""Formats of image files: which are read, by which suffixes they are found, and what other files
are.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec

from PIL import Image

HEIF_PACKAGE = "pillow_heif"  # the extra `heif`
HEIF = frozenset({".heic", ".heif"})
HEIF_HINT = "pip install 'pauc-hub[heif]'"
# By which Pillow is asked. TGA comes last, since nothing marks its beginning.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
# of 8 bits
SHALLOW = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".avif", ".tga"})
# their bits
DECLARING = frozenset(
    {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"}
)
DEEP = frozenset({".png", ".tif", ".tiff"})
NEVER_DEEP = SHALLOW | DECLARING | HEIF
"""Suffixes of images whose value range need not be measured."""

# Of files that archives are not expected to hold beside images, as they are captions and labels.
CAMERA_FILES = frozenset({".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"})
FILMS = frozenset({".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".3gp"})
OTHER_IMAGES = frozenset({".jxl", ".psd", ".svg", ".ico", ".pdf", ".dcm", ".fits", ".exr", ".hdr"})
PICTURES = HEIF | CAMERA_FILES | FILMS | OTHER_IMAGES

HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
UNPACK = "unpack it, or make a tar of it"
EXTRACT = "extract images from it first"
CONVERT = "convert it to PNG, TIFF or JPEG first"


@cache
def has_heif() -> bool:
    return find_spec(HEIF_PACKAGE) is not None


IMAGE_SUFFIXES = SHALLOW | DECLARING | DEEP | (HEIF if has_heif() else frozenset())
"""By which images are found."""


@cache
def register_heif() -> None:
    """Teach Pillow to read HEIC; the package takes time to import, so only where there is such a
    file.
    """
    from pillow_heif import register_heif_opener

    register_heif_opener()


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so, and is no AVIF, is HEIC."""
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS


def begins_as(start: bytes) -> str | None:
    """The format that a file begins as, of those that have a mark there."""
    for form in IMAGE_FORMATS:
        accepts: Callable[[bytes], bool | str] | None = (
            Image.OPEN[form][1] if form in Image.OPEN else None
        )
        if accepts and accepts(start) is True:
            return form
    return None


# What a file begins with, what it then is, and what to do with it.
MARKS: Mapping[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a ZIP archive", UNPACK),
    b"7z\xbc\xaf'\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"\x1f\x8b": ("compressed by gzip", "unpack it; of archives, .tar.gz and .tgz are read"),
    b"BZh": ("compressed by bzip2", UNPACK),
    b"\xfd7zXZ": ("compressed by xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed by Zstandard", UNPACK),
    b"%PDF": ("a PDF document", EXTRACT),
    b"\x1aE\xdf\xa3": ("a Matroska or WebM film", EXTRACT),
    b"\x00\x00\x01\xba": ("an MPEG film", EXTRACT),
    b"\x00\x00\x01\xb3": ("an MPEG film", EXTRACT),
    b"8BPS": ("a Photoshop document", CONVERT),
    b"\xff\x0a": ("a JPEG XL image", CONVERT),
    b"\x00\x00\x00\x0cJXL ": ("a JPEG XL image", CONVERT),
    b"\x93NUMPY": ("a NumPy array", "give it to Model.embed(), or save images"),
    b"\x89HDF": ("an HDF5 file", EXTRACT),
    b"SIMPLE  =": ("a FITS image", CONVERT),
    b"v/1\x01": ("an OpenEXR image", CONVERT),
    b"#?RADIANCE": ("a Radiance HDR image", CONVERT),
    b"<svg": ("an SVG drawing", CONVERT),
    b"<!DOCTYPE html": ("a web page", "fetch the image itself"),
    b"<html": ("a web page", "fetch the image itself"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file with `git lfs pull`"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
}


def foreign(start: bytes) -> str | None:
    """What a file that is no image is, and what to do with it; None where its beginning tells
    nothing.

    Args:
        start: 512 bytes of it, or all there are.
    """
    found = next((told for mark, told in MARKS.items() if start.startswith(mark)), None)
    if start[4:8] == b"ftyp":
        found = ("an MP4 or QuickTime film", EXTRACT)
    elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        found = ("an AVI film", EXTRACT)
    elif start[257:262] == b"ustar":
        found = ("a tar archive", "name it .tar")
    elif start[128:132] == b"DICM":
        found = ("a DICOM image", CONVERT)
    return f"{found[0]}; {found[1]}" if found else None
