"""What `pauc search` is asked: words to rows of the table or image files, and those to vectors. Q
queries, D width.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pauc_hub.errors import PaucError, TableError, UnknownModel, UsageError
from pauc_hub.images.decoding import UnreadableImage, read_image, readable
from pauc_hub.models.catalog import locate
from pauc_hub.retrieval.lookup import find_rows, read_paths, read_vectors
from pauc_hub.tables.stored import Stored, read_pca
from pauc_hub.tables.table import Provenance

if TYPE_CHECKING:  # imports torch
    from pauc_hub.models.folder import ModelFolder


@dataclass(frozen=True)
class Query:
    """An image to search with."""

    word: str
    """As it was given."""
    row: int | None
    """Where it stands in the table; None for a file that does not."""
    file: Path
    """Where the image is, or was."""


def find_queries(words: Sequence[str], table: Path, stored: Stored) -> list[Query]:
    """Look up each word: an image file, else a path that stands in the table.

    Args:
        words: a file is known in the table if it lies where the table's own root and path say.
        table: for messages.

    Raises:
        UsageError: a word is neither.
        PaucError: a file cannot be read as an image.
    """
    names = {
        word: _names(Path(word), stored.provenance.root) if Path(word).exists() else [word]
        for word in words
    }
    rows = find_rows(stored, [name for several in names.values() for name in several])
    return [
        _query(word, [rows[name] for name in names[word] if name in rows], table, stored)
        for word in words
    ]


def image_file(root: str, path: str) -> Path:
    """Where the image of a table lies, or lay; the root may be the image itself."""
    place = Path(root)
    if place.is_file() and place.name == path:
        return place
    file = place / path
    return file if file.exists() else Path(os.fsdecode(_bytes(str(file))))


def check_model(model: str | None, table: Path, provenance: Provenance) -> "ModelFolder":
    """The folder of the model that made the table, its weights fetched if need be.

    Args:
        model: as -m was given; None for what the table names.

    Raises:
        UnknownModel: there is no such model here.
        HubError: its weights cannot be fetched.
        TableError: they are not those that made the table.
    """
    # takes seconds to import, which stored vectors do not need
    from pauc_hub.models.opening import open_model

    try:
        located = locate(model or provenance.model)
    except PaucError as error:
        if model:
            raise
        raise UnknownModel(
            f"'{table}' was made by a model named '{provenance.model}', which is none of those "
            "here by name. "
            "Give its folder with -m."
        ) from error
    folder = open_model(located)
    if folder.weights_sha256 != provenance.weights_sha256:
        raise TableError(
            f"'{table}' was made by '{provenance.model}' with weights of sha256 "
            f"{provenance.weights_sha256[:12]}…, "
            f"and those in '{folder.path}' have {folder.weights_sha256[:12]}…. Give the model "
            "that made it with -m."
        )
    return folder


def embed_queries(
    queries: Sequence[Query], table: Path, stored: Stored, folder: "ModelFolder | None", device: str
) -> npt.NDArray[np.float32]:
    """Vectors to search with, in the table's own space: those stored there, and files embedded as
    its images were.

    Args:
        folder: of the model that made the table; None will do where every query has a row.

    Returns:
        (Q, D) float32.

    Raises:
        TableError: the model's preprocessing is not that which made the table.
        PaucError: an image cannot be read, or the table went through a PCA that is missing.
    """
    known = [query for query in queries if query.row is not None]
    fresh = [query for query in queries if query.row is None]
    parts = []
    if known:
        parts.append(read_vectors(stored, [query.row for query in known if query.row is not None]))
    if fresh:
        assert folder is not None, "files need a model"
        parts.append(
            _embed([query.word for query in fresh], table, stored.provenance, folder, device)
        )
    vectors = np.concatenate(parts)
    order = {id(query): i for i, query in enumerate([*known, *fresh])}
    return vectors[[order[id(query)] for query in queries]]


def _embed(
    files: list[str], table: Path, provenance: Provenance, folder: "ModelFolder", device: str
) -> npt.NDArray[np.float32]:
    # takes seconds to import, which stored vectors do not need
    from pauc_hub.inference.model import load

    pca = read_pca(table)
    side = provenance.preprocessing.get("input_size", [None])[-1]
    model = load(folder, device=device, precision=provenance.precision, image_size=side)
    now = model.preprocessing.to_config()
    if now != {key: provenance.preprocessing.get(key) for key in now}:
        raise TableError(
            f"the model in '{folder.path}' prepares images otherwise than it did for '{table}'. "
            "Embed them again."
        )
    reading = provenance.reading
    vectors = model.embed(
        files,
        space=provenance.space,
        decoding=provenance.preprocessing.get("decoding", "exact"),
        value_range=reading.value_range,
        bands=reading.bands,
    )
    return pca.project(vectors) if pca else vectors


def _query(word: str, rows: list[int], table: Path, stored: Stored) -> Query:
    file = Path(word)
    if not file.exists():
        if not rows:
            raise UsageError(
                f"'{readable(word)}' is neither a file nor a path in '{table}', such as "
                f"'{read_paths(stored, [0])[0]}'."
            )
        return Query(word, rows[0], image_file(stored.provenance.root, word))
    if not rows:
        try:
            read_image(file, stored.provenance.reading)
        except UnreadableImage as error:
            raise PaucError(f"'{readable(word)}' cannot be searched with: {error}.") from error
    return Query(word, rows[0] if rows else None, file)


def _names(file: Path, root: str) -> list[str]:
    """What the file is called in a table of this root: nothing, if it lies elsewhere."""
    names = []
    for here, top in ((file.absolute(), root), (file.resolve(), readable(Path(root).resolve()))):
        name = readable(here)
        if name == top:
            names.append(here.name)
        elif name.startswith(top.rstrip("/") + "/"):
            names.append(name[len(top.rstrip("/")) + 1 :])
    return names


def _bytes(path: str) -> bytes:
    """The other way round than readable()."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), os.fsencode(path)
    )
