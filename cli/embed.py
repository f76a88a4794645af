"""`pauc embed`: a folder of images to a table of embeddings."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.cli.summary import as_object, sentence


def embed(
    images: Annotated[Path, typer.Argument(help="Folder of images, of any nesting; or one image.")],
    model: options.Model = "pauc_resnet18",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Table to write; IMAGES.parquet, beside it, unless given.")
    ] = None,
    batch_size: options.BatchSize = 64,
    device: options.Device = "auto",
    workers: options.Workers = None,
    precision: options.Precision = "auto",
    space: options.Space = "backbone",
    overwrite: options.Overwrite = False,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what a stopped run has done.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a folder of images into a table of embeddings (Parquet); given again, a stopped run goes on."""
    from pauc_hub.catalog import locate
    from pauc_hub.images import find_images
    from pauc_hub.table import beside
    from pauc_hub.workspace import check_start

    table, folder, found = output or beside(images), locate(model), find_images(images)
    check_start(table, overwrite)
    from pauc_hub.device import keep_freed_memory  # what follows takes seconds to import
    from pauc_hub.model import load
    from pauc_hub.tabulate import embed_files

    keep_freed_memory()
    loaded = load(folder, device=device, precision=precision)
    summary = embed_files(
        loaded,
        found,
        table,
        root=images,
        space=space,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        restart=restart,
        quiet=quiet,
    )
    if summary.errors and not quiet:
        unreadable = f"{summary.unreadable} of {len(found)} images could not be read"
        print(f"warning: {unreadable}; listed in {summary.errors}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_object(summary, loaded, space)))
    elif not quiet:
        print(sentence(summary, loaded))
    raise typer.Exit(SOME_UNREADABLE if summary.unreadable else 0)
