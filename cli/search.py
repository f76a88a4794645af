"""`pauc search`: the images of a table that are most like a given one."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes time to import
    from pauc_hub.retrieval.search import Matches


def search(
    images: Annotated[list[str], typer.Argument(help="Image files, or paths in the table.")],
    table: Annotated[
        Path, typer.Option("--in", exists=True, help="Table written by `pauc embed`.")
    ],
    k: Annotated[
        int | None,
        typer.Option(
            "-k", min=1, help="Number of neighbours (default: 10, fewer in a smaller table)."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="Model that made the table, if it is not found by name."
        ),
    ] = None,
    prototypes: Annotated[
        Path | None,
        typer.Option(
            "--prototypes", help="File written by `pauc cluster`; adds each image's prototype."
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page of thumbnails here.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every image, even if the table has an index.")
    ] = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the images of a table most similar to given ones (cosine similarity)."""
    from pauc_hub.retrieval.search import search as search_table
    from pauc_hub.retrieval.search import write_page
    from pauc_hub.retrieval.strip import check_page

    if page:
        check_page(page, overwrite)
    matches = search_table(
        images,
        table,
        k=k,
        model=model,
        prototypes=prototypes,
        exact=exact,
        device=device,
        quiet=quiet,
    )
    if matches.note and not quiet:
        print(escaped(f"note: {matches.note}"), file=sys.stderr)
    if page:
        write_page(matches, page)
    if as_json:
        print(json.dumps(_as_object(matches, page)))
    elif not quiet:
        print(_as_text(matches))
        if page:
            print(escaped(f"{page}: written"), file=sys.stderr)


def _as_text(matches: "Matches") -> str:
    """For each query its name, and below it rank, score and path."""
    from pauc_hub.retrieval.search import ranked

    blocks = []
    for i, (query, neighbors) in enumerate(zip(matches.queries, matches.neighbors, strict=True)):
        lines = [query.word]
        for rank, score, path in ranked(neighbors):
            label = matches.labels[i][rank - 1] if matches.labels else None
            shown = (
                f"  [{label.prototype}{f' {label.name}' if label.name else ''}]" if label else ""
            )
            lines.append(f"{rank:5}  {score:7.4f}  {path}{shown}")
        blocks.append("\n".join(map(escaped, lines)))
    return "\n\n".join(blocks)


def _as_object(matches: "Matches", page: Path | None) -> dict[str, Any]:
    from pauc_hub.retrieval.search import ranked

    about = matches.provenance
    answers = [
        {
            "image": query.word,
            "in_table": query.row is not None,
            "neighbors": [
                {"rank": rank, "score": score, "path": path}
                | (matches.labels[i][rank - 1]._asdict() if matches.labels else {})
                for rank, score, path in ranked(neighbors)
            ],
        }
        for i, (query, neighbors) in enumerate(zip(matches.queries, matches.neighbors, strict=True))
    ]
    return {
        "table": str(matches.table),
        "model": about.model,
        "space": about.space,
        "root": about.root,
        "method": matches.method,
        "html": str(page) if page else None,
        "queries": answers,
    }
