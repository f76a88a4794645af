"""`pauc eval`: all measures of one or several models on labelled images."""

import json
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.evaluate import Evaluation

MEASURE_NAMES = {
    "linear": "linear probe",
    "knn": "kNN",
    "lowshot": "low-shot SVM",
    "clustering": "k-means, K = classes",
    "geometry": "geometry",
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "map": "mAP",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "accuracy": "accuracy, matched",
    "effective_rank": "effective rank",
    "without_copies": "without copies",
}
PLAIN_NUMBERS = frozenset(
    {"alignment", "uniformity", "correlation", "effective_rank", "intra_share", "nmi", "ami", "ari"}
)
"""Measures that are no shares of images."""


def evaluate(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL]… DATA",
            help="Models, then labelled images; or one table of embeddings.",
        ),
    ],
    test: Annotated[
        str | None,
        typer.Option(help="Test images (default: five-fold cross-validation on DATA)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help=(
                "Scores file, NAME.scores.json; for several models a folder (default: beside DATA)."
            ),
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Plot of confusion, reliability and low shots, .png or .svg."),
    ] = None,
    into_card: Annotated[
        bool,
        typer.Option(
            "--into-card",
            help="Write the scores into the model folder: facts.json and README.md.",
        ),
    ] = False,
    labels: options.LabelsFile = None,
    label_column: options.LabelColumn = None,
    group: options.Group = None,
    space: options.Space = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of folds, draws, clusterings and resamples.")
    ] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure models on labelled images: probe, kNN, low shots, clustering, geometry; a scores file
    for each.
    """
    from pauc_hub.answers.evaluate import evaluate as measure

    found = measure(
        places[:-1],
        places[-1],
        test=test,
        output=output,
        plot=plot,
        into_card=into_card,
        space=space,
        labels=labels,
        label_column=label_column,
        group=group,
        seed=seed,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not quiet:
        for note in dict.fromkeys(note for each in found for note in each.notes):
            print(escaped(f"note: {note}"), file=sys.stderr)
    if as_json:
        print(json.dumps([_as_object(each) for each in found], ensure_ascii=False))
    elif not quiet:
        print("\n".join(map(escaped, _as_lines(found))))
    raise typer.Exit(SOME_UNREADABLE if any(each.file.unreadable for each in found) else 0)


def _as_object(found: "Evaluation") -> dict[str, Any]:
    """All but what is said of each image, which the file holds."""
    value = found.file.to_dict()
    del value["predictions"]
    return value | {
        "output": str(found.output),
        "card": None if found.card is None else str(found.card),
    }


def _as_lines(found: list["Evaluation"]) -> list[str]:
    """One column a model, one row a measure."""
    data = found[0].file.data
    how = found[0].file.protocol["tested_on"]
    lines = [f"{data['test']}: {data['images']} images, {len(data['classes'])} classes, {how}"]
    if data["copies"]:
        lines.append(f"  {data['copies']} test images have a copy among the training images.")
    columns = [
        [each.file.origin.model or str(each.output), *_column(found, each)] for each in found
    ]
    widths = [max(map(len, column)) for column in columns]
    titles = ["", *_titles(found)]
    left = max(map(len, titles))
    for row, title in enumerate(titles):
        cells = "  ".join(
            f"{column[row]:<{width}}" for column, width in zip(columns, widths, strict=True)
        )
        lines.append(f"  {title:<{left}}  {cells}".rstrip())
    lines.append("")
    for name, covers in _first_said(found, "intervals").items():
        lines.append(f"  {MEASURE_NAMES[name]}: 95 % intervals, {covers}.")
    for name, reason in _first_said(found, "left_out").items():
        lines.append(f"  Left out: {MEASURE_NAMES.get(name, name)}: {reason}.")
    lines += [f"{each.output}: written" for each in found]
    lines += [
        f"{each.card}: scores are in its facts.json and README.md" for each in found if each.card
    ]
    if len(found) == 2:
        lines.append(
            f"`pauc compare {found[0].output} {found[1].output}` tells whether they differ."
        )
    return lines


def _first_said(found: list["Evaluation"], what: str) -> dict[str, str]:
    """Of all models, each thing once."""
    said: dict[str, str] = {}
    for each in found:
        said = getattr(each.file, what) | said
    return said


def _rows(found: list["Evaluation"]) -> list[tuple[str, str]]:
    """Evaluation and measure, with an empty measure for the heading of an evaluation."""
    rows: list[tuple[str, str]] = []
    for name in dict.fromkeys(name for each in found for name in each.file.scores):
        measures = dict.fromkeys(
            measure for each in found for measure in each.file.scores.get(name, {})
        )
        rows += [(name, ""), *((name, measure) for measure in measures)] if measures else []
    return rows


def _titles(found: list["Evaluation"]) -> list[str]:
    return [
        f"  {_named(measure)}" if measure else MEASURE_NAMES[name] for name, measure in _rows(found)
    ]


def _named(measure: str) -> str:
    stem = measure.removesuffix("_without_copies")
    return MEASURE_NAMES.get(stem, stem) + ("" if stem == measure else ", without copies")


def _column(found: list["Evaluation"], each: "Evaluation") -> list[str]:
    return [
        _cell(measure, each.file.scores.get(name, {}).get(measure))
        for name, measure in _rows(found)
    ]


def _cell(measure: str, score: dict[str, Any] | None) -> str:
    if score is None:
        return ""
    shown = _number if measure in PLAIN_NUMBERS else _share
    if isnan(score["low"]):
        return shown(score["value"])
    return (
        f"{shown(score['value'])} ({shown(score['low']).strip()} to {shown(score['high']).strip()})"
    )


def _share(value: float) -> str:
    return "–" if isnan(value) else f"{value:6.1%}"


def _number(value: float) -> str:
    if isnan(value):
        return "–"
    return f"{value:6.1f}" if abs(value) >= 10 else f"{value:6.3f}"
