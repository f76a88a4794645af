"""`pauc dedupe`: exact and near-duplicates, and images of one set that leaked into another."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.dedupe import Duplicates

LARGEST_SHOWN = 5
MANY_FALSE = 0.05
"""Share of the images from which on the number of false pairs is worth a warning."""


def dedupe(
    images: options.Input,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="[OTHER]", help="Second table or images: find those with a copy in the first."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help=".parquet or .csv (default: NAME.duplicates.parquet)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help=(
                "Minimum cosine similarity of a copy (default: chosen on copies made from a "
                "sample)."
            )
        ),
    ] = None,
    model: options.InputModel = None,
    move: Annotated[
        Path | None, typer.Option("--move", help="Move the copies into this folder.")
    ] = None,
    link: Annotated[
        Path | None, typer.Option("--link", help="Link to the copies from this folder.")
    ] = None,
    table: options.InputTable = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find exact and near copies of images, and say which to keep. Never deletes anything."""
    from pauc_hub.answers.dedupe import dedupe as find_duplicates

    found = find_duplicates(
        images,
        other,
        output=output,
        threshold=threshold,
        model=model,
        move=move,
        link=link,
        table=table,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    false = found.threshold.false_pairs
    if false is not None and false > MANY_FALSE * found.images and not quiet:
        print(
            f"warning: up to {false:.0f} pairs that reach the threshold may be like images, not "
            "copies. "
            "Give --threshold, or embed by a stronger model",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps(_as_object(found)))
    elif not quiet:
        print(_as_text(found))


def _as_text(found: "Duplicates") -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.items() if count)
    count = len(found.duplicates)
    what = (
        f"have a copy in {found.table}" if found.other else f"are copies, in {found.groups} groups"
    )
    lines = [
        f"{found.output}: {count} of {found.images} images {what}{f' ({kinds})' if kinds else ''}"
    ]
    lines += [f"  threshold {found.threshold.value:.4f}: {_how(found)}"]
    for each in found.duplicates[:LARGEST_SHOWN]:
        lines.append(
            f"  {each.path} = {each.kept}  ({each.kind}, {each.similarity:.4f}; kept: "
            f"{each.reason})"
        )
    if count > LARGEST_SHOWN:
        lines.append(f"  … and {count - LARGEST_SHOWN} more")
    return "\n".join(map(escaped, lines))


def _how(found: "Duplicates") -> str:
    chosen = found.threshold
    if chosen.recall is None or chosen.false_pairs is None:
        return (
            "as given"
            if chosen.given
            else "not calibrated: too few images, or their model, can be reached"
        )
    return (
        f"{100 * chosen.recall:.0f} % of {chosen.copies} re-encoded, resized and cropped copies "
        "reach it; "
        f"at most about {chosen.false_pairs:.0f} false pairs among all"
    )


def _as_object(found: "Duplicates") -> dict[str, Any]:
    return {
        "output": str(found.output),
        "table": str(found.table),
        "other": str(found.other) if found.other else None,
        "images": found.images,
        "groups": found.groups,
        "threshold": asdict(found.threshold),
        "kinds": found.kinds,
        "moved": found.moved,
        "duplicates": [asdict(each) for each in found.duplicates],
    }
