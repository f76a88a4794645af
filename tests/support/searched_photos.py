"""Five images in a folder, and tables of them that differ in what is said about them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import Table

NAMES = ["a.png", "b.JPG", "d.gif", "sub/c.webp", "sub/e.png"]
FILES = ("-m", "model", "--device", "cpu")
"""Options for queries that are files, which are embedded."""


def save_pictures(root: Path) -> None:
    (root / "sub").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        picture(i).save(root / name, quality=95)


def rewrite(path: str, table: Table, pca: Pca | None = None, **changes: Any) -> None:
    """The same table, except for what is said about it."""
    about, vectors = replace(table.provenance, **changes), table.embeddings.astype(np.float32)
    with open_output(Path(path), vectors.shape[1], len(vectors), about, pca=pca) as output:
        output.write(table.paths, vectors, table.sizes)


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC)
