"""`pauc embed`: a folder of images to a table of embeddings."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.errors import Interrupted

if TYPE_CHECKING:
    from pauc_hub.embed import Summary
    from pauc_hub.model import Model


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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a folder of images into a table of embeddings (Parquet)."""
    from pauc_hub.catalog import locate
    from pauc_hub.images import find_images
    from pauc_hub.table import beside, check_output

    table, folder, found = output or beside(images), locate(model), find_images(images)
    check_output(table, overwrite)
    from pauc_hub.device import keep_freed_memory  # what follows takes seconds to import
    from pauc_hub.embed import embed_files
    from pauc_hub.model import load

    keep_freed_memory()
    loaded = load(folder, device=device, precision=precision)
    try:
        summary = embed_files(
            loaded,
            found,
            table,
            root=images,
            space=space,
            batch_size=batch_size,
            workers=workers,
            overwrite=overwrite,
            quiet=quiet,
        )
    except KeyboardInterrupt as stop:
        raise Interrupted(f"interrupted; '{table}' was not written.") from stop
    if summary.errors and not quiet:
        unreadable = f"{summary.unreadable} of {len(found)} images could not be read"
        print(f"warning: {unreadable}; listed in {summary.errors}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_object(summary, loaded, space)))
    elif not quiet:
        print(sentence(summary, loaded))
    raise typer.Exit(SOME_UNREADABLE if summary.unreadable else 0)


def sentence(summary: "Summary", model: "Model") -> str:
    made = f"{summary.images} embedding{'s' * (summary.images != 1)} of {summary.width} numbers by {model.name}"
    return f"{summary.output}: {made} in {summary.seconds:.1f} s ({summary.images / summary.seconds:.1f} images/s)"


def as_object(summary: "Summary", model: "Model", space: str) -> dict[str, object]:
    files = {"output": str(summary.output), "errors": str(summary.errors) if summary.errors else None}
    counts = {"images": summary.images, "unreadable": summary.unreadable, "width": summary.width}
    how = {"model": model.name, "space": space, "precision": model.precision, "device": str(model.device)}
    return {**files, **counts, **how, "seconds": round(summary.seconds, 3)}
