"""Thumbnails of images that stand in a table, wherever these are: in a folder, a tar or a Parquet
file.
"""

from contextlib import closing
from pathlib import Path

from pauc_hub.answers.reachable_images import reachable_images
from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.images.thumbnails import thumbnail
from pauc_hub.progress import progress_bar
from pauc_hub.sources import Entry
from pauc_hub.threads import decode_ahead

# of the longer side, in pixels
THUMBNAIL_SIDE = 128
# of the JPEG; about 4 KB each
QUALITY = 75
AHEAD = 64


def thumbnails_of(
    root: str, names: set[str], reading: Reading = PLAIN, quiet: bool = False
) -> dict[str, str]:
    """JPEGs in base64 of those images that can be read; URLs are not fetched again.

    Args:
        root: where the images of the table were.
        names: paths in the table.
        reading: of the images, as the table has it.
    """

    def shrink(found: tuple[str, Entry | Path]) -> tuple[str, str | None]:
        name, place = found
        try:
            return name, thumbnail(
                place if isinstance(place, Path) else place.open(),
                reading,
                side=THUMBNAIL_SIDE,
                quality=QUALITY,
            )
        except (UnreadableImage, OSError):
            return name, None

    with (
        progress_bar(len(names), "thumbnails", quiet=quiet) as bar,
        closing(decode_ahead(shrink, reachable_images(root, names), None, AHEAD)) as shrunk,
    ):
        made = {}
        for name, data in shrunk:
            bar.advance(1)
            if data:
                made[name] = data
        return made
