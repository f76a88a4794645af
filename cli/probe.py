"""`pauc probe`: how well labels can be read off embeddings, and the classifier that does it."""

import json
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import SOME_UNREADABLE

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.probe_report import Report
    from pauc_hub.evaluation.classification import Score, Scores
    from pauc_hub.evaluation.low_shot import LowShot

MOST_CLASSES_SHOWN = 30
MOST_CLASSES_CONFUSED = 12
NAMES = {"top1": "top-1", "top5": "top-5", "mean_per_class": "mean per class", "map": "mAP"}


def probe(
    train: Annotated[
        str, typer.Argument(help="Training images: table, or images, which are embedded first.")
    ],
    test: Annotated[
        str | None,
        typer.Argument(help="Test images (default: five-fold cross-validation on TRAIN)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Probe to write, NAME.probe.safetensors.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Plot of confusion, reliability and draws, .png or .svg."),
    ] = None,
    protocol: Annotated[
        Literal["linear", "knn", "lowshot", "pcl-voc07", "semi"],
        typer.Option(help="Evaluation protocol."),
    ] = "linear",
    labels: options.LabelsFile = None,
    label_column: options.LabelColumn = None,
    group: options.Group = None,
    difficult: Annotated[
        str | None, typer.Option(help="Column that lists difficult classes, for pcl-voc07.")
    ] = None,
    model: options.InputModel = None,
    space: options.Space = None,
    seed: Annotated[int, typer.Option(help="Random seed of folds, draws and resamples.")] = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit a classifier on labelled embeddings and score it on unseen images, with intervals."""
    from pauc_hub.answers.probe import probe as fit_and_score

    report = fit_and_score(
        train,
        test,
        output=output,
        plot=plot,
        model=model,
        space=space,
        protocol=protocol,
        labels=labels,
        label_column=label_column,
        group=group,
        difficult=difficult,
        seed=seed,
        device=device,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not quiet:
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    elif not quiet:
        print("\n".join(_as_lines(report)))
    raise typer.Exit(SOME_UNREADABLE if report.unreadable else 0)


def _as_lines(report: "Report") -> list[str]:
    """What is printed."""
    lines = _heading(report)
    found = report.findings
    if found.scores:
        lines += ["", *_totals(found.scores)]
        if report.copies:
            lines += ["", *_copies(report)]
        if found.reliability:
            plain = 0.0 if found.uncalibrated_error is None else found.uncalibrated_error
            lines += [
                "",
                (
                    f"  calibration error {found.reliability.error:.1%} ({plain:.1%} before the "
                    "temperature)"
                ),
            ]
        lines += ["", *_classes(found.scores), *_confusion(found.scores)]
    for name, draws in found.draws.items():
        lines += ["", *([f"  {name}"] if name else [])]
        lines += [
            f"  {training:<18}{_interval(*_of_draws(point))}".rstrip()
            for training, point in draws.points
        ]
        if draws.full is not None:
            lines.append(f"  {'all':<18}{draws.full:7.1%}")
    if not found.scores and report.copies:
        lines += ["", f"  {len(report.copies)} test images have a copy among the training images."]
    lines += ["", f"  Intervals: 95 %, {found.covers}."]
    if report.output:
        lines.append(
            f"{report.output}: written; `pauc predict IMAGES --probe {report.output}` uses it."
        )
    elif report.protocol == "linear":
        lines.append("No probe was written; -o NAME.probe.safetensors keeps it.")
    return lines


def _heading(report: "Report") -> list[str]:
    size = f"{report.train_images} images, {len(report.classes)} classes"
    alone = (
        "tested on images that were not drawn"
        if report.findings.draws
        else "cross-validated in five folds"
    )
    asked = f"tested on {report.test} ({report.test_images} images)" if report.test else alone
    lines = [
        f"{report.protocol} probe of {report.train} ({size}), {asked}",
        f"  model {report.model}, {report.space} space",
    ]
    settings = report.findings.settings
    if "l2" in settings:
        lines.append(
            f"  L2 {settings['l2']:.1e}, temperature {settings['temperature']:.2f}, chosen on "
            f"{settings['chosen_on']}"
        )
    elif "k" in settings:
        lines.append(
            f"  k = {settings['k']}, T = {settings['temperature']}, chosen on a tenth of the "
            "training images"
        )
    elif "classifier" in settings:
        lines.append(f"  {settings['classifier']}")
    return lines


def _totals(scores: "Scores") -> list[str]:
    return [
        f"  {NAMES[name]:<18}{_of_score(score)}".rstrip() for name, score in scores.totals.items()
    ]


def _copies(report: "Report") -> list[str]:
    asked, learned = report.copies[0]
    count = f"{len(report.copies)} of {report.test_images} test images"
    lines = [f"  {count} have a copy among the training images, such as {asked} ({learned})."]
    if report.findings.without_copies:
        lines += ["  Without them:", *_totals(report.findings.without_copies)]
    return lines


def _classes(scores: "Scores") -> list[str]:
    """Table of classes; of many the worst."""
    known = [each for each in scores.classes if each.images]
    shown = known
    title = "class"
    if len(known) > MOST_CLASSES_SHOWN:
        shown = sorted(known, key=lambda each: each.recall)[:MOST_CLASSES_SHOWN]
        title = f"worst {MOST_CLASSES_SHOWN} classes"
    width = max(len(title), *(len(each.name) for each in shown))
    lines = [f"  {title:<{width}}  images   recall                     precision      AP"]
    for each in shown:
        recall = _interval(each.recall, *each.interval)
        lines.append(
            f"  {each.name:<{width}}  {each.images:6d}  {recall}    {_share(each.precision)}"
            f"  {_share(each.average_precision)}"
        )
    return lines


def _confusion(scores: "Scores") -> list[str]:
    """The whole matrix of a few classes, else the commonest mistakes."""
    if scores.confusion is None:
        return []
    names = [each.name for each in scores.classes]
    counts = scores.confusion
    if len(names) <= MOST_CLASSES_CONFUSED:
        width = max(map(len, names))
        digits = max(6, len(str(counts.max())) + 1)
        columns = "".join(f"{name[: digits - 1]:>{digits}}" for name in names)
        rows = [
            f"  {name:<{width}}" + "".join(f"{count:{digits}d}" for count in row)
            for name, row in zip(names, counts.tolist(), strict=True)
        ]
        return ["", "  true in rows, predicted in columns", f"  {'':<{width}}{columns}", *rows]
    pairs = [(int(counts[i, j]), i, j) for i, j in zip(*counts.nonzero(), strict=True) if i != j]
    return [
        "",
        "  commonest mistakes",
        *(
            f"  {count:6d}  {names[i]} taken for {names[j]}"
            for count, i, j in sorted(pairs, reverse=True)[:10]
        ),
    ]


def _of_score(score: "Score") -> str:
    return _interval(score.value, score.low, score.high)


def _of_draws(point: "LowShot") -> tuple[float, float, float]:
    return point.mean, *point.interval


def _interval(value: float, low: float, high: float) -> str:
    return f"{_share(value)}  {f'({low:.1%} to {high:.1%})':<17}"


def _share(value: float) -> str:
    return "      –" if isnan(value) else f"{value:7.1%}"
