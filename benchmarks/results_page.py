"""docs/results.md and its figure, from what benchmarks/ablation.py measured: no figure there is
typed.

    python benchmarks/results_page.py

Nothing is written where nothing was measured.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from ablation_plan import ROWS
from measuring import RESULTS
from speed_sections import table

from pauc_hub.evaluation.paired import Difference, accuracy_difference

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = "results.md", "ablation.svg"
# 97.5 % quantiles of Student's t, by degrees of freedom
STUDENT_T = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}
COLUMNS = (
    ("knn", "kNN", 1),
    ("linear", "linear", 1),
    ("cluster_accuracy", "clustering accuracy", 1),
    ("cluster_nmi", "NMI", 1),
    ("effective_rank", "effective rank", 1),
    ("intra_share", "intra_share", 3),
    ("minutes", "minutes", 0),
)
COMPARED = (("pauc", "protonce"), ("pauc", "infonce"), ("protonce", "infonce"))
SCORES = ("knn", "linear", "cluster_accuracy", "cluster_nmi")
# what the figure shows, under which name
CURVES = (("intra_share", "intra_share"), ("effective_rank", "effective rank"))
CURVES_SECTION = f"""## Coagulation, epoch by epoch

![intra_share and effective rank over epochs]({FIGURE})

The share of the projections' variance that lies within clusters, and the number of dimensions in use, after each
E-step ([method.md](method.md), section 6). A line is the mean over seeds, the band reaches from the least to the
largest.
"""  # noqa: E501
COLOURS = {"infonce": "#777777", "protonce": "#d1495b", "pauc": "#00798c"}

Found = Mapping[str, Any]


def of_rows(result: Found) -> dict[str, list[Found]]:
    """Runs of each row, by seed; rows in the plan's order, without those that nobody has run."""
    runs = sorted(result["runs"].values(), key=lambda run: run["seed"])
    rows = {row.name: [run for run in runs if run["row"] == row.name] for row in ROWS}
    return {name: found for name, found in rows.items() if found}


def spread(values: Sequence[float], digits: int) -> str:
    """`51.7 ± 0.4`, the deviation over seeds; the value alone of one seed."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def paired(
    first: Sequence[Found], second: Sequence[Found], name: str
) -> tuple[float, float, int] | None:
    """Mean difference, half of its 95 % interval by Student's t, and the number of seeds that both
    have.

    Returns:
        None with fewer than two seeds in common.
    """
    by_seed = {run["seed"]: run[name] for run in second}
    differences = [run[name] - by_seed[run["seed"]] for run in first if run["seed"] in by_seed]
    count = len(differences)
    if count < 2:
        return None
    half = STUDENT_T[count - 1] * statistics.stdev(differences) / sqrt(count)
    return statistics.mean(differences), half, count


def by_images(first: Found, second: Found, images: int) -> Difference:
    """How much better `first` is in kNN accuracy, in [-1, 1]: two networks on the same images."""
    return accuracy_difference(_right(second, images), _right(first, images))


def _right(run: Found, images: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    bits = np.frombuffer(bytes.fromhex(run["knn_right"]), np.uint8)
    return np.unpackbits(bits)[:images].astype(bool)


def page(result: Found) -> str:
    """The whole page."""
    parts = [part(result) for part in (_head, _scores, _low_shot, _comparisons)]
    return "\n".join([*parts, CURVES_SECTION, _protocols(result)])


def _head(result: Found) -> str:
    about = result["about"]
    bank, queries, settings = about["training split"], about["test split"], about["settings"]
    return f"""# What each part of the objective adds

Made by `python benchmarks/results_page.py` from what `benchmarks/ablation.py` measured.

{settings["architecture"]} with its stock stem at {settings["size"]} pixels, {settings["epochs"]} epochs with batches of
{settings["batch_size"]}, {bank["images"]:,} images of {bank["name"]}, scored on {queries["images"]:,} of
{queries["name"]}, at the last epoch. **This is no published setting**: compare the rows with each other, and with no
table elsewhere. The rows differ in the objective alone. Rows of one seed have no spread of their own; take that of the
rows with several for what a difference means.
"""  # noqa: E501


def _scores(result: Found) -> str:
    lines = []
    for name, found in of_rows(result).items():
        values = [spread([run[key] for run in found], digits) for key, _, digits in COLUMNS]
        lines.append((f"`{name}`: {found[0]['about']}", str(len(found)), *values))
    head = ("row", "seeds", *(title for _, title, _ in COLUMNS))
    return f"## Scores, mean ± standard deviation over seeds\n\n{table(head, lines)}"


def _low_shot(result: Found) -> str:
    rows = of_rows(result)
    shots = sorted({int(k) for found in rows.values() for run in found for k in run["low_shot"]})
    lines = [
        (f"`{name}`", *(spread([run["low_shot"][str(k)] for run in found], 1) for k in shots))
        for name, found in rows.items()
    ]
    return f"## Few labels: images a class\n\n{table(('row', *map(str, shots)), lines)}"


def _comparisons(result: Found) -> str:
    """Methods over seeds, then two networks over images: the second says nothing of methods."""
    rows, images = of_rows(result), result["about"]["test split"]["images"]
    pairs = [(a, b) for a, b in COMPARED if a in rows and b in rows]
    over_seeds, over_images = [], []
    for a, b in pairs:
        found = [paired(rows[a], rows[b], name) for name in SCORES]
        if found[0]:
            told = [f"{each[0]:+.2f} ± {each[1]:.2f}" if each else "–" for each in found]
            over_seeds.append((f"{a} − {b}", str(found[0][2]), *told))
        difference = by_images(rows[a][0], rows[b][0], images)
        low, high = (100 * end for end in difference.interval)
        told = [
            f"{100 * difference.value:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{difference.p_value:.3f}",
        ]
        over_images.append((f"{a} − {b}", *told))
    titles = [title for key, title, _ in COLUMNS if key in SCORES]
    text = "## Method against method\n\n"
    if over_seeds:
        text += f"""Differences in points, paired by seed, with 95 % intervals by Student's t over the seeds.
An interval that holds 0 shows no difference.

{table(("difference", "seeds", *titles), over_seeds)}
"""  # noqa: E501
    else:
        text += "Not enough seeds to compare methods.\n\n"
    if over_images:
        text += f"""Two networks, one of each method (the first seed), on the same {images:,} test images:
kNN in points, with Tango's intervals and McNemar's mid-p. This compares two networks;
another seed gives another network.

{table(("difference", "kNN", "95 %", "p"), over_images)}"""  # noqa: E501
    return text


def _protocols(result: Found) -> str:
    about, rows = result["about"], of_rows(result)
    runs = [run for found in rows.values() for run in found]
    hardware = sorted(
        {f"{run['hardware']['name']}, {run['hardware']['cores']} cores" for run in runs}
    )
    commits = sorted({str(run["commit"]) for run in runs})
    protocols = "\n".join(f"- {name}: {told}." for name, told in about["protocols"].items())
    settings = ", ".join(f"{name} {value}" for name, value in about["settings"].items())
    return f"""## Protocols and settings

{protocols}
- Common settings: {settings}.
- Code: commit {", ".join(commits)}. Machine: {"; ".join(hardware)}.
"""


def draw(result: Found, path: Path) -> None:
    """The figure, as SVG; the same bytes for the same result."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = of_rows(result)
    with mpl.rc_context({"svg.hashsalt": "ablation"}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        for axes, (key, title) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
            for name in (name for name in COLOURS if name in rows):
                curves = [run["curves"][key] for run in rows[name]]
                values = np.array([curve["values"] for curve in curves], float)
                epochs = curves[0]["epochs"]
                axes.plot(epochs, values.mean(axis=0), color=COLOURS[name], label=name)
                axes.fill_between(
                    epochs,
                    values.min(axis=0),
                    values.max(axis=0),
                    color=COLOURS[name],
                    alpha=0.2,
                    lw=0,
                )
            axes.set_xlabel("epoch")
            axes.set_title(title)
        figure.axes[0].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def fullest() -> Path:
    """The result with most runs.

    Raises:
        SystemExit: there is none.
    """
    found = sorted(RESULTS.glob("ablation-*.json"))
    if not found:
        raise SystemExit(
            "error: there is no benchmarks/results/ablation-….json. benchmarks/ablation.py "
            "writes it."
        )
    return max(found, key=lambda path: len(json.loads(path.read_text(encoding="utf-8"))["runs"]))


def main() -> None:
    result = json.loads(fullest().read_text(encoding="utf-8"))
    if not result["runs"]:
        raise SystemExit("error: no run of the ablation is finished.")
    (DOCS / PAGE).write_text(page(result), encoding="utf-8")
    draw(result, DOCS / FIGURE)


if __name__ == "__main__":
    main()
