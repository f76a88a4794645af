"""A picture of what a probe found: confusion matrix and reliability curve, or scores over the
images a class.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.probe_report import Draws, Report
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.classification import Scores
from pauc_hub.evaluation.temperature import Reliability
from pauc_hub.tables.table import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT_SUFFIXES = (".png", ".svg")
PANEL_SIDE = 5.5
"""Of a panel, in inches."""
MOST_NAMED = 40
"""Classes whose names fit beside the matrix."""
MOST_COUNTED = 15
"""Classes whose shares fit into the matrix."""


def check_plots() -> None:
    """Refuse pictures, before any work, where nothing can draw them.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("pictures need matplotlib: `pip install 'pauc-hub[eval]'`.")


def write_plot(report: Report, path: Path) -> None:
    """Draw what there is to see, as PNG or SVG by the end of the name.

    Raises:
        PaucError: it cannot be written.
    """
    from matplotlib.figure import Figure

    found = report.findings
    panels: list[tuple[Any, Any]] = []
    if found.scores and found.scores.confusion is not None:
        panels.append((_draw_scores, found.scores))
    if found.reliability:
        panels.append((draw_reliability, found.reliability))
    if found.draws:
        panels.append((_draw_draws, found.draws))
    figure = Figure(figsize=(PANEL_SIDE * len(panels), 5), layout="constrained")
    for axes, (draw, what) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        draw(axes, what)
    figure.suptitle(
        f"{report.protocol} probe of {Path(report.train).name}, {report.model}", fontsize=10
    )
    with whole_file(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=150)


def _draw_scores(axes: "Axes", scores: Scores) -> None:
    assert scores.confusion is not None
    draw_confusion(axes, scores.confusion, [each.name for each in scores.classes])


def draw_confusion(axes: "Axes", confusion: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw (C, C) counts, true by predicted, as shares of each true class."""
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title="share of each true class", xlabel="predicted", ylabel="true")
    if len(names) <= MOST_NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= MOST_COUNTED:
        for row, column in np.ndindex(shares.shape):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color=colour,
            )


def draw_reliability(axes: "Axes", bins: Reliability) -> None:
    """Draw how often claims of each confidence came true."""
    filled = bins.counts > 0
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as stated")
    axes.plot(bins.confidence[filled], bins.accuracy[filled], marker="o", label="as it came true")
    widths = np.diff(bins.edges)
    axes.bar(
        bins.edges[:-1],
        bins.counts / bins.counts.sum(),
        widths,
        align="edge",
        alpha=0.2,
        label="share of predictions",
    )
    axes.set(
        title=f"calibration error {bins.error:.1%}",
        xlabel="probability",
        ylabel="share that is right",
    )
    axes.legend(fontsize=8)


def _draw_draws(axes: "Axes", draws: dict[str, Draws]) -> None:
    for name, each in draws.items():
        places = range(len(each.points))
        means = [point.mean for _, point in each.points]
        spread = [
            [point.mean - point.interval[0], point.interval[1] - point.mean]
            for _, point in each.points
        ]
        axes.errorbar(
            places,
            means,
            yerr=np.array(spread).T,
            marker="o",
            capsize=3,
            label=name or each.measure,
        )
        axes.set_xticks(places, [training for training, _ in each.points], fontsize=8)
    axes.set(title="mean over draws, 95 % interval", ylabel=next(iter(draws.values())).measure)
    axes.legend(fontsize=8)
