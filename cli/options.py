"""Options that several commands share, with one wording each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pauc_hub.errors import UsageError
from pauc_hub.models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:  # it takes time to import
    from pauc_hub.images.reading import Reading

MODEL_HELP = (
    "Bundled model, model folder or run, timm name (`resnet50.a1_in1k`), or "
    "hf-hub:owner/name[@revision]."
)
Model = Annotated[str, typer.Option("-m", "--model", help=MODEL_HELP)]
EmbeddingModel = Annotated[
    str | None,
    typer.Option(
        "-m", "--model", show_default=f"{DEFAULT_MODEL}, or that of --like", help=MODEL_HELP
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Batch size (default: 32 on a CPU, 256 on a GPU).")
]
Device = Annotated[
    str, typer.Option(help="Device: auto (the first GPU, else the CPU), cpu, cuda, cuda:1, mps.")
]
TrainingDevice = Annotated[
    str, typer.Option(help="Device: auto (the first GPU, else the CPU), cpu, cuda, cuda:1.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that decode images (default: one for each core)."),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(help="Compute precision; auto uses bf16 where the hardware supports it."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1, show_default="the model's", help="Side of the network's square input, in pixels."
    ),
]
Decoding = Annotated[
    Literal["exact", "scaled"] | None,
    typer.Option(
        show_default="exact",
        help="scaled decodes large JPEGs at reduced size: faster, less exact.",
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help=(
            "Values shown as black and white in images of more than 8 bits; `image`: each "
            "image's extremes."
        ),
        show_default="declared by the files, else measured",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B", help="Bands of TIFF files to use as red, green and blue, counted from 1."
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(help="Image column of Parquet files (default: found by type and name)."),
]
Dtype = Annotated[
    Literal["float32", "float16"], typer.Option(help="Data type of the embeddings in the file.")
]
Space = Annotated[
    Literal["backbone", "projection"] | None,
    typer.Option(
        show_default="backbone",
        help="backbone features, or the projection in which the prototypes are (unit vectors).",
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="File to write: .parquet, .npy or .safetensors (default: IMAGES.parquet).",
    ),
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES|TABLE",
        help="Table written by `pauc embed`, or images, which are embedded first.",
    ),
]
InputModel = Annotated[
    str | None, typer.Option("-m", "--model", help="Model that embeds the images.")
]
InputTable = Annotated[
    Path | None, typer.Option("--table", help="Table of the images (default: beside them).")
]
Prototypes = Annotated[
    Path | None, typer.Option("--prototypes", help="File written by `pauc cluster`.")
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="CSV or Parquet file with the columns path and label (default: folders are labels).",
    ),
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of labels (default: label).")]
Group = Annotated[
    str | None,
    typer.Option(help="Column of groups that are never split, such as videos or patients."),
]
Names = Annotated[
    Path | None,
    typer.Option(
        "--names",
        help="CSV file with the columns prototype, name and, except for the finest, granularity.",
    ),
]
Update = Annotated[bool, typer.Option("--update", help="Embed only new or changed images.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard the work of a stopped run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of prose.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


def reading_of(value_range: str | None, bands: str | None) -> "Reading":
    """What --range and --bands ask for.

    Raises:
        UsageError: they are not written as they should be.
    """
    from pauc_hub.images.reading import Reading, parse_bands, parse_range

    try:
        chosen = parse_bands(bands) if bands else ()
    except ValueError:
        raise UsageError(
            f"--bands '{bands}' is not one or three numbers of bands from 1, such as 3,2,1."
        ) from None
    try:
        return Reading(parse_range(value_range) if value_range else None, chosen)
    except ValueError:
        raise UsageError(
            f"--range '{value_range}' is not LOW,HIGH, such as 0,4095, nor `image`."
        ) from None


def numbers(text: str | None) -> list[int] | None:
    """`250,500,1000` as a list."""
    try:
        return [int(part) for part in text.split(",")] if text is not None else None
    except ValueError:
        raise UsageError(
            f"--clusters '{text}' is no list of numbers, such as 250,500,1000."
        ) from None
