"""`pauc embed`: images to a table of embeddings."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.cli.summary import as_object, sentence


def embed(
    images: Annotated[str, typer.Argument(help="Folder of images, image, tar or Parquet files; or a URL of such.")],
    model: options.Model = "pauc_resnet18",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write: .parquet (IMAGES.parquet unless given), .npy, .safetensors."
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    precision: options.Precision = "auto",
    backend: options.Backend = "auto",
    decoding: options.Decoding = "exact",
    space: options.Space = "backbone",
    dtype: options.Dtype = "float32",
    pca: Annotated[int | None, typer.Option(min=1, help="Keep so many principal components.")] = None,
    update: options.Update = False,
    overwrite: options.Overwrite = False,
    restart: options.Restart = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn images into a table of embeddings; given again, a stopped run goes on, and a finished one is left alone."""
    from pauc_hub.embedding.earlier import check_place
    from pauc_hub.embedding.parts import part_of, share
    from pauc_hub.models.catalog import locate
    from pauc_hub.processes import Ranks
    from pauc_hub.sources import open_source
    from pauc_hub.tables.table import table_of

    ranks, folder = Ranks.from_environment(), locate(model)
    source, table = share(open_source(images), ranks), part_of(table_of(images, output), ranks)
    check_place(table, overwrite=overwrite or update)
    from pauc_hub.device import BATCH_SIZES, keep_freed_memory, share_cores  # what follows takes seconds to import
    from pauc_hub.embedding.embed_files import embed_files
    from pauc_hub.embedding.plan import Form
    from pauc_hub.inference.model import load

    keep_freed_memory()
    loaded = load(folder, device=ranks.device(device), precision=precision, backend=backend)
    summary = embed_files(
        loaded,
        source,
        table,
        space=space,
        batch_size=batch_size or BATCH_SIZES[loaded.device.type],
        workers=workers or ranks.workers(),
        lanes=share_cores(loaded.device) if loaded.backend == "torch" else 1,
        decoding=decoding,
        form=Form(dtype, pca),
        part=ranks.several,
        quiet=quiet or ranks.rank > 0,
        overwrite=overwrite,
        restart=restart,
        update=update,
    )
    if summary.errors and not quiet:
        unreadable = f"{summary.unreadable} of {summary.images + summary.unreadable} images could not be read"
        print(f"warning: {unreadable}; listed in {summary.errors}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_object(summary, loaded, space)))
    elif not quiet:
        print(sentence(summary, loaded, updated=update))
    raise typer.Exit(SOME_UNREADABLE if summary.unreadable and not ranks.several else 0)
