"""Options that several commands share, with one wording each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pauc_hub.errors import UsageError
from pauc_hub.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:  # it takes time to import
    from pauc_hub.images.reading import Reading

MODEL = "Bundled model, model folder or run, timm name (`resnet50.a1_in1k`), or hf-hub:owner/name[@revision]."
Model = Annotated[str, typer.Option("-m", "--model", help=MODEL)]
EmbeddingModel = Annotated[
    str | None, typer.Option("-m", "--model", show_default=f"{DEFAULT_MODEL}, or that of --like", help=MODEL)
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Batch size (default: 32 on a CPU, 256 on a GPU).")]
Device = Annotated[str, typer.Option(help="Device: auto (the first GPU, else the CPU), cpu, cuda, cuda:1, mps.")]
TrainingDevice = Annotated[str, typer.Option(help="Device: auto (the first GPU, else the CPU), cpu, cuda, cuda:1.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that decode images (default: one for each core).")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(help="Compute precision; auto uses bf16 where the hardware supports it."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(min=1, show_default="the model's", help="Side of the square that the network sees, pixels."),
]
Decoding = Annotated[
    Literal["exact", "scaled"] | None,
    typer.Option(show_default="exact", help="scaled: large JPEGs at a fraction of their sides, quicker, less exact."),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help="Numbers that are black and white, where images hold no bytes; `image`: each one's own extremes.",
        show_default="what the files declare, else measured on all",
    ),
]
Bands = Annotated[
    str | None, typer.Option(metavar="R,G,B", help="Bands of TIFF files that are red, green and blue, from 1.")
]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column of images in Parquet files (default: found by its type and name).")
]
Dtype = Annotated[Literal["float32", "float16"], typer.Option(help="Data type of the embeddings in the file.")]
Space = Annotated[
    Literal["backbone", "projection"] | None,
    typer.Option(show_default="backbone", help="projection: unit vectors, where the prototypes live."),
]
Table = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File to write: .parquet (IMAGES.parquet unless given), .npy, .safetensors."),
]
Input = Annotated[
    str, typer.Argument(metavar="IMAGES|TABLE", help="A table that `pauc embed` wrote, or images, embedded first.")
]
InputModel = Annotated[str | None, typer.Option("-m", "--model", help="The model that embeds images.")]
InputTable = Annotated[
    Path | None, typer.Option("--table", help="Where the table of images is kept; beside them unless given.")
]
Prototypes = Annotated[Path | None, typer.Option("--prototypes", help="File that `pauc cluster` wrote.")]
Names = Annotated[
    Path | None, typer.Option("--names", help="CSV file: prototype, name and, but for the finest, granularity.")
]
Update = Annotated[bool, typer.Option("--update", help="Embed only what is new or changed since.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop what a stopped run has done.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of prose.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


def reading(value_range: str | None, bands: str | None) -> "Reading":
    """What --range and --bands ask for.

    Raises:
        UsageError: they are not written as they should be.
    """
    from pauc_hub.images.reading import Reading, parse_bands, parse_range

    try:
        chosen = parse_bands(bands) if bands else ()
    except ValueError:
        raise UsageError(f"--bands '{bands}' is not one or three numbers of bands from 1, such as 3,2,1.") from None
    try:
        return Reading(parse_range(value_range) if value_range else None, chosen)
    except ValueError:
        raise UsageError(f"--range '{value_range}' is not LOW,HIGH, such as 0,4095, nor `image`.") from None


def numbers(text: str | None) -> list[int] | None:
    """`250,500,1000` as a list."""
    try:
        return [int(part) for part in text.split(",")] if text is not None else None
    except ValueError:
        raise UsageError(f"--clusters '{text}' is no list of numbers, such as 250,500,1000.") from None
