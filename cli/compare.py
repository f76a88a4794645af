"""`pauc compare`: are two networks different on the same images, or is it chance?"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.cli.evaluate import MEASURE_NAMES
from pauc_hub.cli.failures import SOME_UNREADABLE
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.answers.compare import Comparison
    from pauc_hub.answers.differences import Compared


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Scores file written by `pauc eval`, or a model.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="Scores file of the other model, or that model.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Labelled images on which two models are measured."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Test images (default: five-fold cross-validation on DATA)."),
    ] = None,
    labels: options.LabelsFile = None,
    label_column: options.LabelColumn = None,
    group: options.Group = None,
    space: options.Space = None,
    margin: Annotated[
        float,
        typer.Option(min=0.01, max=99.0, help="Difference that matters, in points (hundredths)."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed of folds, draws and resamples.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say whether two models differ on the same images by more than chance, and by more than a
    margin.
    """
    from pauc_hub.answers.compare import compare as compare_scores

    found = compare_scores(
        first,
        second,
        data,
        test=test,
        space=space,
        labels=labels,
        label_column=label_column,
        group=group,
        margin=margin / 100,
        seed=seed,
        device=device,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    elif not quiet:
        print("\n".join(map(escaped, _as_lines(found))))
    unreadable = data is not None and (found.first.unreadable or found.second.unreadable)
    raise typer.Exit(SOME_UNREADABLE if unreadable else 0)


def _as_lines(found: "Comparison") -> list[str]:
    """What is printed."""
    data = found.first.data
    units = f", {found.groups} groups" if found.groups is not None else ""
    how = f"{len(data['classes'])} classes, {found.first.protocol['tested_on']}"
    lines = [
        f"A: {found.first.origin}",
        f"B: {found.second.origin}",
        f"on {data['test']}: {found.images} images{units}, {how}",
    ]
    if found.first.origin == found.second.origin:
        lines.append("note: A and B are the same network.")
    for name, flips in found.flips.items():
        width = max(6, len(str(found.images)))
        lines += [
            "",
            f"  {MEASURE_NAMES[name]:<12}  {'B right':>{width + 1}}  {'B wrong':>{width + 1}}",
            f"  {'A right':<12}  {flips.both:>{width + 1}}  {flips.first_only:>{width + 1}}",
            f"  {'A wrong':<12}  {flips.second_only:>{width + 1}}  {flips.neither:>{width + 1}}",
        ]
    lines += ["", *_table(found), ""]
    lines += [f"  {_title(each)}: {_sentence(each, found)}" for each in found.scores]
    lines += ["", *_methods(found)]
    return [
        *lines,
        (
            "  This compares two networks, not two methods of training. For that, train each with "
            "several seeds,"
        ),
        "  and compare their scores by Student's t, paired by seed.",
    ]


def _table(found: "Comparison") -> list[str]:
    titles = [_title(each) for each in found.scores]
    width = max(map(len, [*titles, ""]))
    lines = [f"  {'':<{width}}       A       B   B - A  95 % interval       p"]
    for title, each in zip(titles, found.scores, strict=True):
        low, high = (100 * end for end in each.difference.interval)
        p_value = each.difference.p_value
        shown = "" if p_value is None else "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
        interval = f"{low:+.1f} to {high:+.1f}"
        values = (
            f"{100 * each.first:6.1f}  {100 * each.second:6.1f}  "
            f"{100 * each.difference.value:+6.1f}"
        )
        lines.append(f"  {title:<{width}}  {values}  {interval:<16}  {shown}".rstrip())
    return lines


def _title(each: "Compared") -> str:
    evaluation = MEASURE_NAMES[each.evaluation].split(",")[0]
    return f"{evaluation} {MEASURE_NAMES.get(each.measure, each.measure)}"


def _sentence(each: "Compared", found: "Comparison") -> str:
    """The verdict, and what would be needed."""
    margin = f"{100 * found.margin:g} points" if found.margin != 0.01 else "1 point"
    better = "B" if each.difference.value > 0 else "A"
    largest = max(map(abs, each.difference.interval))
    match each.verdict:
        case "better_beyond_margin":
            said = f"{better} is better, beyond the margin of {margin}"
        case "better_within_margin" if largest <= found.margin:
            said = f"{better} is better, within the margin of {margin}"
        case "better_within_margin":
            said = f"{better} is better, though perhaps within the margin of {margin}"
        case "equivalent":
            said = f"equivalent: the 90 % interval lies inside ±{margin}"
        case _:
            said = "not told apart"
    if each.images_needed is None:
        return f"{said}."
    units = "images" if found.groups is None else "groups"
    return (
        f"{said}. About {_rounded(each.images_needed):,} {units} tell a difference of {margin} "
        "(80 % power)."
    )


def _rounded(count: int) -> int:
    """To two digits, which is more than is known."""
    return round(count, 2 - len(str(count)))


def _methods(found: "Comparison") -> list[str]:
    methods: dict[str, list[str]] = {}
    for each in found.scores:
        methods.setdefault(each.difference.method, []).append(_title(each))
    return [f"  {method}: {', '.join(titles)}." for method, titles in methods.items()]
