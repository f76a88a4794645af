"""Found images as one HTML file for people to look at: thumbnails inside, nothing to fetch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.images.thumbnails import thumbnail
from pauc_hub.tables.table import whole_file

SIDE = 320  # the longer one of a thumbnail, in pixels: twice what is shown, for dense screens
QUALITY = 80  # of its JPEG; about 20 KB each
STYLE = """
:root { color-scheme: light dark;
  --back: #f6f6f6; --card: #fff; --line: #ddd; --text: #222; --faint: #666; --mark: #0a58ca }
@media (prefers-color-scheme: dark) {
  :root { --back: #161616; --card: #212121; --line: #3a3a3a; --text: #e6e6e6; --faint: #a3a3a3; --mark: #7db0ff }
}
body { margin: 0; padding: 1.5rem; background: var(--back); color: var(--text); font: 14px/1.4 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere }
header p { margin: .25rem 0 0; color: var(--faint); overflow-wrap: anywhere }
section { display: flex; gap: .75rem; overflow-x: auto; padding: 1rem 0; border-bottom: 1px solid var(--line) }
figure { flex: none; box-sizing: border-box; width: 178px; margin: 0; padding: 8px; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px }
figure:first-child { position: sticky; left: 0; border-color: var(--mark); box-shadow: 0 0 0 1px var(--mark) inset }
figure div { height: 160px; display: flex; align-items: center; justify-content: center }
img { max-width: 100%; max-height: 100%; border-radius: 3px }
em { color: var(--faint); text-align: center }
figcaption { margin-top: 8px; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
figure:first-child b { color: var(--mark) }
small { display: block; color: var(--faint) }
"""  # noqa: E501


@dataclass(frozen=True)
class StripPicture:
    """One place in a strip."""

    label: str
    name: str
    file: Path
    """Where the image is, or was."""


def check_page(path: Path, overwrite: bool) -> None:
    """Find out before any work whether the page can be written.

    Raises:
        UsageError: in a folder that is not there.
        OutputExists: something is there, and may not be overwritten.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"'{path}' cannot be written: there is no such folder. Name another place."
        )
    if path.is_dir():
        raise OutputExists(f"'{path}' is a folder. Name another place.")
    if path.exists() and not overwrite:
        raise OutputExists(f"'{path}' exists. Name another place, or give overwrite=True.")


def write_strips(
    path: Path,
    title: str,
    about: str,
    strips: Iterable[Sequence[StripPicture]],
    reading: Reading = PLAIN,
) -> None:
    """Write the strips below each other; in each the query comes first.

    Args:
        reading: of the images, as the table has it.

    Raises:
        PaucError: it cannot be written; nothing of it is left.
    """
    with whole_file(path) as file:
        file.write(
            _encoded(f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>
<main>
""")
        )
        for strip in strips:
            figures = "\n".join(_figure(picture, reading) for picture in strip)
            file.write(_encoded(f"<section>\n{figures}\n</section>\n"))
        file.write(b"</main>\n</html>\n")


def _figure(picture: StripPicture, reading: Reading) -> str:
    name = escape(picture.name)
    try:
        small = thumbnail(picture.file, reading, side=SIDE, quality=QUALITY)
        shown = f'<img alt="{name}" src="data:image/jpeg;base64,{small}">'
    except UnreadableImage as error:
        shown = f"<em>{escape(error.message)}</em>"
    caption = f"<b>{escape(picture.label)}</b><small>{name}</small>"
    return f'<figure title="{name}"><div>{shown}</div><figcaption>{caption}</figcaption></figure>'


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names of files may be any bytes
