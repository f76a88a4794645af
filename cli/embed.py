"""`pauc embed`: images to a table of embeddings."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.embedding.embed_files import Summary

KINDS_TOLD = 6  # of files that were passed over


def embed(
    images: Annotated[
        str,
        typer.Argument(
            help="Folder, image, tar or Parquet file, list or pattern of these, or URL."
        ),
    ],
    model: options.EmbeddingModel = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .parquet, .npy or .safetensors (default: IMAGES.parquet).",
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    precision: options.Precision = "auto",
    image_size: options.ImageSize = None,
    decoding: options.Decoding = None,
    space: options.Space = None,
    value_range: options.ValueRange = None,
    bands: options.Bands = None,
    like: Annotated[
        Path | None,
        typer.Option(exists=True, help="Take model, space, value range and bands from this table."),
    ] = None,
    image_column: options.ImageColumn = None,
    dtype: options.Dtype = "float32",
    pca: Annotated[
        int | None, typer.Option(min=1, help="Keep this many principal components.")
    ] = None,
    update: options.Update = False,
    overwrite: options.Overwrite = False,
    restart: options.Restart = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn images into a table of embeddings. The same command resumes a stopped run."""
    from pauc_hub.embedding.embed import embed as embed_source
    from pauc_hub.processes import Ranks

    ranks = Ranks.from_environment()
    reading = options.reading_of(value_range, bands)
    summary = embed_source(
        images,
        model,
        output=output,
        batch_size=batch_size,
        device=device,
        workers=workers,
        precision=precision,
        image_size=image_size,
        decoding=decoding,
        space=space,
        value_range=reading.value_range,
        bands=reading.bands,
        like=like,
        image_column=image_column,
        dtype=dtype,
        pca=pca,
        update=update,
        overwrite=overwrite,
        restart=restart,
        quiet=quiet,
    )
    for warning in () if quiet else _warnings_of(summary):
        print(escaped(f"warning: {warning}"), file=sys.stderr)
    if as_json:
        print(json.dumps(_as_object(summary)))
    elif not quiet:
        print(escaped(_sentence(summary, updated=update)))
    raise typer.Exit(SOME_UNREADABLE if summary.unreadable and not ranks.several else 0)


def _warnings_of(summary: "Summary") -> Iterator[str]:
    """What people should know of the images, a line each."""
    images = summary.images + summary.unreadable
    if summary.errors:
        yield (
            f"{summary.unreadable} of {images} images could not be read; listed in {summary.errors}"
        )
    if summary.passed_over:
        yield told_passed_over(summary.passed_over)
    if summary.few_levels:
        from pauc_hub.images.deep import ENOUGH_LEVELS

        yield (
            f"{summary.few_levels} of {images} images are left with fewer than {ENOUGH_LEVELS} "
            "levels of grey; "
            "--range LOW,HIGH says which numbers are black and white"
        )
    if summary.more_pages:
        yield f"{summary.more_pages} of {images} files have more than one page; the first was taken"


def told_passed_over(files: Mapping[str, int]) -> str:
    """`12 files passed over: 7 .heic (pip install 'pauc-hub[heif]'), 5 .mov`."""
    from pauc_hub.images.formats import HEIF, HEIF_HINT

    count = sum(files.values())
    ranked = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    shown = [
        f"{number} {suffix or 'without a suffix'}" + (f" ({HEIF_HINT})" if suffix in HEIF else "")
        for suffix, number in ranked[:KINDS_TOLD]
    ]
    others = sum(number for _, number in ranked[KINDS_TOLD:])
    kinds = ", ".join([*shown, *([f"{others} of other kinds"] if others else [])])
    return f"{count} file{'s' * (count != 1)} passed over: {kinds}"


def _sentence(summary: "Summary", *, updated: bool) -> str:
    plural = "s" * (summary.images != 1)
    made = f"{summary.images} embedding{plural} of {summary.width} numbers by {summary.model}"
    if summary.done_before:
        more = (
            "nothing is new or changed"
            if updated
            else "--update embeds what changed since, --overwrite everything"
        )
        return f"{summary.output}: complete already, {made}; {more}"
    rate = (summary.images + summary.unreadable - summary.resumed) / summary.seconds
    before = f"; {summary.resumed} were done before" if summary.resumed else ""
    return (
        f"{summary.output}: {made} in {summary.seconds:.1f} s ({rate:.1f} images/s at "
        f"{summary.image_size} px{before})"
    )


def _as_object(summary: "Summary") -> dict[str, object]:
    files = {
        "output": str(summary.output),
        "errors": str(summary.errors) if summary.errors else None,
    }
    return asdict(summary) | files | {"seconds": round(summary.seconds, 3)}
