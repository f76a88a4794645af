"""The function behind `pauc embed`: a source of images and a model to an embedding table."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pauc_hub.embedding.earlier import check_table_place, choose_reading
from pauc_hub.embedding.hints import about_images, about_input
from pauc_hub.embedding.like import Manner, manner_of, require_made_by
from pauc_hub.embedding.parts import part_of, share
from pauc_hub.errors import Note
from pauc_hub.images.reading import Ranges, Reading, as_reading
from pauc_hub.models.catalog import DEFAULT_MODEL, locate
from pauc_hub.processes import Ranks
from pauc_hub.sources import open_source, passed_over
from pauc_hub.tables.table import table_of

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.embedding.embed_files import Summary
    from pauc_hub.tables.outputs import Dtype


def embed(
    images: str | Path,
    model: str | Path | None = None,
    *,
    output: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    precision: str = "auto",
    image_size: int | None = None,
    decoding: str | None = None,
    space: str | None = None,
    value_range: Ranges = None,
    bands: Sequence[int] = (),
    like: str | Path | None = None,
    image_column: str | None = None,
    dtype: "Dtype" = "float32",
    pca: int | None = None,
    update: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    quiet: bool = False,
) -> "Summary":
    """Embed all images of a source, and write the table.

        >>> summary = embed("photos/", output="mine.parquet", quiet=True)
        >>> summary.images, summary.width
        (15, 512)

    Given again, a stopped run goes on where it stopped, and a finished one is left alone. Several
    processes, as torchrun numbers them in the environment, each write a part.

    Args:
        images: a folder, image, tar or Parquet file, list, pattern or URL (docs/sources.md).
        model: what load() takes: a bundled model, a folder, a name of timm's or of the Hugging Face
            Hub; the strongest bundled one unless given.
        output: the table: .parquet, .npy or .safetensors; beside the images, IMAGES.parquet, unless
            given.
        batch_size: 32 on a CPU and 256 on a GPU unless given.
        device: `auto` is the first GPU, else the CPU; or a name of torch's.
        workers: threads that decode; one for each core unless given.
        precision: `auto` is bf16 where the hardware supports it; or fp32, bf16.
        image_size: side of the square that the network sees, in pixels; the model's own unless
            given.
        decoding: `exact` unless given; `scaled` for large JPEGs at a fraction of their sides,
            quicker and less exact.
        space: `backbone` unless given, or `projection` for unit vectors of the space the prototypes
            live in.
        value_range: the numbers that are black and white in images that hold no bytes, `(0, 4095)`;
            or `image` for each one's own extremes. Unless given, what files declare, else measured
            on the whole source (docs/images.md).
        bands: of TIFF files, from 1: red, green and blue, or one alone as grey.
        like: a table whose model, space, decoding, value range and bands are taken, so that rows
            can be compared.
        image_column: of Parquet files, where several hold images, or one of another name.
        dtype: of the stored numbers, float32 or float16.
        pca: number of principal components to keep; all dimensions unless given.
        update: embed only what is new or changed since the table was written.
        overwrite: replace a table that is there, once the new one is whole.
        restart: drop what a stopped run has done.
        quiet: no progress bar.

    Returns:
        How many images, of which width, where, and how long it took. Unreadable images are in
        `summary.errors`.

    Raises:
        UnknownModel, MissingWeights, ModelFolderError: there is no such model, or it is damaged.
        HubError: its weights cannot be fetched.
        UsageError, NoImages, OutputExists, UnfinishedRun: before anything is embedded.
        Interrupted: by Ctrl-C; what is done is saved.
    """
    ranks = Ranks.from_environment()
    place = str(images)
    given = as_reading(value_range, bands)
    example = Path(like) if like else None
    if example:
        manner = manner_of(example, model, space, decoding, given)
    else:
        manner = Manner(model or DEFAULT_MODEL, space or "backbone", decoding or "exact", given)
    located = locate(manner.model)
    whole = open_source(place, image_column)
    source = share(whole, ranks)
    table = part_of(table_of(place, Path(output) if output else None), ranks)
    check_table_place(table, overwrite=overwrite or update)

    # What follows takes seconds to import.
    from pauc_hub.device import BATCH_SIZES, side_by_side
    from pauc_hub.embedding.embed_files import embed_files
    from pauc_hub.embedding.plan import Form
    from pauc_hub.inference.model import load

    loaded = load(
        located,
        device=ranks.device(device),
        precision=precision,
        image_size=image_size or manner.image_size,
        quiet=quiet or ranks.rank > 0,
    )
    reading = manner.reading
    if example is None:
        learnt = Reading.from_config(loaded.folder.facts.get("data") or {})
        reading = choose_reading(
            table, whole, reading, overwrite=overwrite, restart=restart, learnt=learnt
        )
    if example:
        require_made_by(example, loaded.weights_sha256, loaded.preprocessing.to_config())
    side = loaded.preprocessing.size
    as_trained = not (image_size or example)
    if as_trained:
        _note(about_input(loaded.name, side))
    with side_by_side(loaded.device) as lanes:
        summary = embed_files(
            loaded,
            source,
            table,
            space=manner.space,
            batch_size=batch_size or BATCH_SIZES[loaded.device.type],
            workers=workers or ranks.workers(),
            lanes=lanes,
            decoding=manner.decoding,
            reading=reading,
            form=Form(dtype, pca),
            part=ranks.several,
            quiet=quiet or ranks.rank > 0,
            overwrite=overwrite,
            restart=restart,
            update=update,
        )
    if as_trained:
        _note(about_images(loaded.name, side, summary.median_side))
    return replace(
        summary, device=str(loaded.device), image_size=side, passed_over=dict(passed_over(source))
    )


def _note(message: str | None) -> None:
    if message:
        warnings.warn(message, Note, stacklevel=3)
