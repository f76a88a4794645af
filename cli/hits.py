"""What `pauc search` prints and shows of what it found."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # they take time to import
    from pauc_hub.search.cosine import Neighbors
    from pauc_hub.search.neighbors import Found
    from pauc_hub.search.queries import Query
    from pauc_hub.search.strip import Picture
    from pauc_hub.tables.table import Provenance


def as_text(queries: "list[Query]", found: "Found") -> str:
    """For each query its name, and below it rank, score and path."""
    return "\n\n".join(
        "\n".join([query.word, *(f"{rank:5}  {score:7.4f}  {path}" for rank, score, path in _ranked(neighbors))])
        for query, neighbors in zip(queries, found.neighbors, strict=True)
    )


def as_object(
    table: Path, about: "Provenance", queries: "list[Query]", found: "Found", page: Path | None
) -> dict[str, Any]:
    answers = [
        {
            "image": query.word,
            "in_table": query.row is not None,
            "neighbors": [{"rank": rank, "score": score, "path": path} for rank, score, path in _ranked(neighbors)],
        }
        for query, neighbors in zip(queries, found.neighbors, strict=True)
    ]
    where = {"table": str(table), "model": about.model, "space": about.space, "root": about.root}
    return where | {"method": found.method, "html": str(page) if page else None, "queries": answers}


def write_page(page: Path, table: Path, about: "Provenance", queries: "list[Query]", found: "Found") -> None:
    """The HTML page of thumbnails."""
    from pauc_hub.search import strip

    strips = (_strip(*both, about.root) for both in zip(queries, found.neighbors, strict=True))
    strip.write_page(page, f"Most alike in {table.name}", f"{about.model}, {about.space} space; cosine", strips)


def _strip(query: "Query", neighbors: "Neighbors", root: str) -> "list[Picture]":
    from pauc_hub.search.queries import image_file
    from pauc_hub.search.strip import Picture

    found = [Picture(f"{rank} · {score:.4f}", path, image_file(root, path)) for rank, score, path in _ranked(neighbors)]
    return [Picture("query", query.word, query.file), *found]


def _ranked(neighbors: "Neighbors") -> list[tuple[int, float, str]]:
    """Rank from 1, cosine to six places, path."""
    pairs = zip(neighbors.scores.tolist(), neighbors.paths, strict=True)
    return [(rank, round(score, 6), path) for rank, (score, path) in enumerate(pairs, start=1)]
