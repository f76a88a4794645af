"""A picture for a model's card: the images that are most like its largest prototypes, a row for
each.
"""

import base64
import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pauc_hub.answers.assign import assign
from pauc_hub.answers.thumbnails import THUMBNAIL_SIDE, thumbnails_of
from pauc_hub.errors import UsageError
from pauc_hub.tables.stored import open_table

# Prototypes, and images of each.
ROWS, COLUMNS = 8, 8
# Pixels between two images.
GAP = 4
QUALITY = 85


def gallery(
    images: str | Path, model: str | Path, *, device: str = "auto", quiet: bool = False
) -> bytes:
    """A JPEG of what the prototypes of a model find in some images; its coarsest clustering is
    shown.

    Args:
        images: whatever embed() takes, or a table of the model. They will be seen by whoever sees
            the card.
        model: a model with prototypes.
        device: to embed them on.
        quiet: no progress bars.

    Raises:
        UsageError: the model has no prototypes, or none of the images can be shown.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        found = assign(
            images,
            model=model,
            output=place / "images.csv",
            exemplars=COLUMNS,
            table=place / "images.parquet",
            device=device,
            quiet=quiet,
        )
        assert found.exemplars
        rows = _central(found.exemplars)
        about = open_table(found.table).provenance
        names = {name for row in rows for name in row}
        pictures = thumbnails_of(about.root, names, about.reading, quiet=quiet)
    if not pictures:
        raise UsageError(
            f"none of the images of '{images}' can be shown: they are not where they were embedded."
        )
    return _grid([[pictures[name] for name in row if name in pictures] for row in rows])


def _central(exemplars: Path) -> list[list[str]]:
    """Of the largest prototypes of the coarsest granularity, which come first in the file."""
    with exemplars.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["kind"] == "central"]
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line["granularity"] == lines[0]["granularity"]:
            rows.setdefault(line["prototype"], []).append(line["path"])
    return list(rows.values())[:ROWS]


def _grid(rows: Sequence[Sequence[str]]) -> bytes:
    """Each in the middle of a square of its own.

    Args:
        rows: JPEGs in base64, THUMBNAIL_SIDE pixels at most.
    """
    rows = [row for row in rows if row]
    step = THUMBNAIL_SIDE + GAP
    sheet = Image.new("RGB", (step * max(map(len, rows)) - GAP, step * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, data in enumerate(row):
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            left, top = (THUMBNAIL_SIDE - image.width) // 2, (THUMBNAIL_SIDE - image.height) // 2
            sheet.paste(image, (x * step + left, y * step + top))
    written = io.BytesIO()
    sheet.save(written, "JPEG", quality=QUALITY)
    return written.getvalue()
