"""A picture of evaluations: confusion matrix and reliability curve of each model, and the low-shot
curves of all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.probe_plot import PANEL_SIDE, draw_confusion, draw_reliability
from pauc_hub.answers.scores_file import ScoresFile
from pauc_hub.evaluation.temperature import reliability
from pauc_hub.tables.table import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_evaluation_plot(files: Sequence[ScoresFile], names: Sequence[str], path: Path) -> None:
    """Draw a row for each model, as PNG or SVG by the end of the name.

    Args:
        files: what evaluate() found, of one label an image.
        names: of the models.

    Raises:
        PaucError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * PANEL_SIDE, PANEL_SIDE * len(files)), layout="constrained")
    grid = figure.subplots(len(files), 3, squeeze=False)
    for (matrix, curve, _), file, name in zip(grid, files, names, strict=True):
        draw_confusion(matrix, confusion(file), file.data["classes"])
        matrix.set_title(f"{name}: share of each true class")
        draw_reliability(curve, reliability(*_claims(file)))
    for beside in grid[:, 2]:
        beside.set_axis_off()
    if any("lowshot" in file.scores for file in files):
        grid[0, 2].set_axis_on()
        _draw_low_shots(grid[0, 2], files, names)
    data = files[0].data
    figure.suptitle(
        f"linear probe on {Path(data['test']).name}, {data['images']} images", fontsize=10
    )
    with whole_file(path) as picture:
        figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=150)


def confusion(file: ScoresFile) -> npt.NDArray[np.int64]:
    """(C, C) of the linear probe, true by predicted."""
    index = {name: c for c, name in enumerate(file.data["classes"])}
    true = np.array([index[name] for name in file.predictions["label"]])
    predicted = np.array([index[name] for name in file.predictions["linear"]["predicted"]])
    return np.bincount(true * len(index) + predicted, minlength=len(index) ** 2).reshape(
        len(index), len(index)
    )


def _claims(file: ScoresFile) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(N,) how likely the linear probe called its answer, and whether that was right."""
    said = file.predictions["linear"]
    right = np.array(said["predicted"]) == np.array(file.predictions["label"])
    return np.array(said["confidence"], np.float64), right


def _draw_low_shots(axes: "Axes", files: Sequence[ScoresFile], names: Sequence[str]) -> None:
    curves = [file.scores.get("lowshot", {}) for file in files]
    # the same for all models, but for those that some could not be measured by
    titles = list(dict.fromkeys(title for points in curves for title in points))
    for points, name in zip(curves, names, strict=True):
        places = [titles.index(title) for title in points]
        means = np.array([point["value"] for point in points.values()])
        ends = np.array([[point["low"], point["high"]] for point in points.values()]).reshape(-1, 2)
        spread = np.abs(ends.T - means)
        axes.errorbar(places, means, yerr=spread, marker="o", capsize=3, label=name)
    axes.set_xticks(range(len(titles)), titles, fontsize=8)
    axes.set(title="low-shot SVM: mean over draws, 95 % interval", ylabel="top-1")
    axes.legend(fontsize=8)
