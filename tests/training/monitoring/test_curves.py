"""The picture: which panels it has, and that each shows its numbers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pauc_hub.training.monitoring import curves
from pauc_hub.training.monitoring.curves import PANELS, draw
from pauc_hub.training.monitoring.history import History

Made = Callable[..., History]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, before it is pixels."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: object, **named: object) -> None:
        kept.append(self)
        save(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def drawn_in(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), dtype=float).tolist() for line in axes.lines]


def test_every_panel_shows_what_was_measured(
    tmp_path: Path, made: Made, figures: list[Figure]
) -> None:
    series = {
        name: [0.25, 0.5, float(i)]
        for i, name in enumerate(name for panel in PANELS for name in panel.metrics)
    }
    titles = draw(made(**series), tmp_path / "curves.png")
    assert titles == [panel.title for panel in PANELS]
    [figure] = figures
    assert figure.get_suptitle() == "pauc, resnet18 at 224 px, 3 of 40 epochs; shaded: warm-up"
    for axes, panel in zip(figure.axes, PANELS, strict=True):
        assert axes.get_title(loc="left") == panel.title
        shown = [values for values in drawn_in(axes) if len(values) == 3]
        assert shown == [series[name] for name in panel.metrics]
        assert {text.get_text() for text in axes.texts} >= set(panel.metrics.values()) - {""}
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 1000


def test_what_was_not_measured_has_no_panel(tmp_path: Path, made: Made) -> None:
    assert draw(made({"objective": "infonce"}, infonce=[5.0, 4.0]), tmp_path / "curves.png") == [
        curves.LOSS
    ]
    assert draw(made(), tmp_path / "curves.png") == [curves.LOSS]  # nothing yet
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_long_runs_are_thinned_and_names_stand_apart(
    tmp_path: Path, made: Made, figures: list[Figure]
) -> None:
    steps = [
        {"epoch": i // 50, "step": i % 50 + 1, "loss": 1.0, "infonce": float(i)}
        for i in range(2000)
    ]
    same = {name: [0.5, 0.5] for name in ("proto", "align", "unif", "corr")}
    draw(replace(made(infonce=[1.0, 2.0], **same), steps=steps), tmp_path / "curves.png")
    loss, terms, *_ = figures[0].axes
    thinned = [values for values in drawn_in(loss) if len(values) > 2]
    assert [(len(values), values[0]) for values in thinned] == [(400, 2.0)]  # the mean of 0 to 4
    heights = sorted(text.xy[1] for text in terms.texts)  # type: ignore[attr-defined]
    assert all(b - a > 0.1 for a, b in pairwise(heights))
