"""The function behind `pauc search`: images, and the nearest to each of them in an embedding
table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pauc_hub.retrieval import strip
from pauc_hub.retrieval.cosine import Neighbors
from pauc_hub.retrieval.neighbors import check_k, find_neighbors
from pauc_hub.retrieval.queries import Query, check_model, embed_queries, find_queries, image_file
from pauc_hub.tables.stored import open_table
from pauc_hub.tables.table import Provenance

if TYPE_CHECKING:
    from pauc_hub.retrieval.labelling import PrototypeLabel

DEFAULT_K = 10


@dataclass(frozen=True)
class Matches:
    """What search() gives."""

    table: Path
    provenance: Provenance
    """Of the table."""
    queries: list[Query]
    neighbors: list[Neighbors]
    """One entry for each query: rows, cosine similarities and paths, the nearest first."""
    method: Literal["exact", "index"]
    note: str | None
    """What the user might do about the speed, if anything."""
    labels: "list[list[PrototypeLabel]] | None" = None
    """The prototype of each neighbour, where prototypes were given."""


def search(
    images: str | Path | Sequence[str | Path],
    table: str | Path,
    *,
    k: int | None = None,
    model: str | Path | None = None,
    prototypes: str | Path | None = None,
    exact: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Matches:
    """Find the images of a table that are most like given ones, by cosine similarity.

        >>> found = search("photos/things/rocket.jpg", "photos.parquet", k=3)
        >>> found.neighbors[0].paths[0]
        'things/rocket.jpg'

    Args:
        images: one or several image files, or paths that stand in the table; an image is never its
            own neighbour.
        table: as embed() writes it.
        k: neighbours for each; 10 unless given, fewer where the table holds fewer.
        model: the model that made the table, where the table's own name for it does not lead there.
        prototypes: a file that cluster() wrote, to say which prototype each neighbour belongs to.
        exact: compare every row, also where a large table has an index.
        device: for images that do not stand in the table; `auto` is the first GPU, else the CPU.
        quiet: no progress bar.

    Raises:
        UsageError: k is out of range, or an image is neither a file nor in the table.
        TableError: the table is damaged, or the model is not the one that made it.
        PaucError: an image cannot be read.
    """
    place = Path(table)
    words = [str(image) for image in ([images] if isinstance(images, str | Path) else images)]
    stored = open_table(place)
    check_k(1 if k is None else k, stored.rows, place)
    queries = find_queries(words, place, stored)
    own = [query.row for query in queries]
    others = stored.rows - any(row is not None for row in own)
    count = max(1, min(DEFAULT_K, others)) if k is None else k
    check_k(count, others, place)
    folder = (
        check_model(str(model) if model else None, place, stored.provenance)
        if model or None in own
        else None
    )
    vectors = embed_queries(queries, place, stored, folder, device)
    found = find_neighbors(place, vectors, count, left_out=own, exact=exact, quiet=quiet)
    labels = None
    if prototypes:
        # imports torch, which stored vectors do not need
        from pauc_hub.retrieval.labelling import label_neighbors

        labels = label_neighbors(place, stored, found.neighbors, Path(prototypes))
    return Matches(
        place, stored.provenance, queries, found.neighbors, found.method, found.note, labels
    )


def write_page(matches: Matches, page: Path) -> None:
    """Write an HTML page of thumbnails: each query, then its neighbours."""
    about = matches.provenance
    strips = (
        _strip(*both, about.root) for both in zip(matches.queries, matches.neighbors, strict=True)
    )
    title = f"Most alike in {matches.table.name}"
    made = f"{about.model}, {about.space} space; cosine"
    strip.write_strips(page, title, made, strips, about.reading)


def _strip(query: Query, neighbors: Neighbors, root: str) -> list[strip.StripPicture]:
    found = [
        strip.StripPicture(f"{rank} · {score:.4f}", path, image_file(root, path))
        for rank, score, path in ranked(neighbors)
    ]
    return [strip.StripPicture("query", query.word, query.file), *found]


def ranked(neighbors: Neighbors) -> list[tuple[int, float, str]]:
    """Rank from 1, cosine to six places, path."""
    pairs = zip(neighbors.scores.tolist(), neighbors.paths, strict=True)
    return [(rank, round(score, 6), path) for rank, (score, path) in enumerate(pairs, start=1)]
