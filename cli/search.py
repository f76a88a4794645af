"""`pauc search`: the images of a table that are most like a given one."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import hits, options


def search(
    images: Annotated[list[str], typer.Argument(help="Image files, or paths that stand in the table.")],
    table: Annotated[Path, typer.Option("--in", exists=True, help="Table that `pauc embed` wrote.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Images to find for each.")] = 10,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Folder of the table's model, where its name does not lead there."),
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Page of thumbnails to write.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every image, also in a table with an index.")] = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the images of a table that are most like a given one, by cosine similarity."""
    from pauc_hub.search.neighbors import check_k
    from pauc_hub.search.neighbors import search as search_table
    from pauc_hub.search.queries import check_model, embed_queries, find_queries
    from pauc_hub.search.strip import check_page
    from pauc_hub.tables.outputs import open_table

    if page:
        check_page(page, overwrite)
    stored = open_table(table)
    check_k(k, stored.rows, table)
    queries = find_queries(images, table, stored)
    own = [query.row for query in queries]
    folder = check_model(model, table, stored.provenance) if model or None in own else None
    vectors = embed_queries(queries, table, stored, folder, device)
    found = search_table(table, vectors, k, left_out=own, exact=exact, quiet=quiet)
    if found.note and not quiet:
        print(f"note: {found.note}", file=sys.stderr)
    if page:
        hits.write_page(page, table, stored.provenance, queries, found)
    if as_json:
        print(json.dumps(hits.as_object(table, stored.provenance, queries, found, page)))
    elif not quiet:
        print(hits.as_text(queries, found))
