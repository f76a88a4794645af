"""A run's curves as one picture: small multiples, each with its name, over the epochs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pauc_hub.files.atomic import replacing
from pauc_hub.training.monitoring.history import History

if TYPE_CHECKING:  # an extra
    from matplotlib.axes import Axes

INK, FAINT, GREY, SHADE = "#1f4e79", "#b9cde2", "#8a8a8a", "#f3f1ea"
# of several lines, which are named at their ends too
TONES = ("#1f4e79", "#c55a11", "#4a7c2c", "#7f4f9e", "#a88a00")
COLUMNS, WIDTH, HEIGHT = 3, 4.1, 2.3  # of panels; inches of each
FINEST = 400  # points of a curve of steps, each the mean of its neighbours
FEW = 40  # points that are marked one by one
APART = 0.11  # of the panel's height, between two names

Curve = tuple[Sequence[float], Sequence[float]]  # places in epochs, values


@dataclass(frozen=True)
class Panel:
    """One of the small pictures.

    Attributes:
        title: by which findings name it.
        metrics: fields of an epoch's line, and what they are called; those that a run lacks are
            left out.
        share: values in [0, 1], written in percent.
        low, high: what the axis shows at least, so that noise about nothing does not look like a
            trend.
    """

    title: str
    metrics: Mapping[str, str]
    share: bool = False
    low: float | None = None
    high: float | None = None


LOSS, INTRA_SHARE, RANK, SPREAD = "InfoNCE (nats)", "intra_share", "effective rank", "uniformity"
CLUSTERS, TIME = "clusters", "share of time"
PANELS = (
    Panel(LOSS, {"infonce": ""}),
    Panel(
        "other terms (nats)", {name: name for name in ("proto", "align", "unif", "corr", "scatter")}
    ),
    Panel("learning rate", {"lr": ""}, low=0),
    Panel(INTRA_SHARE, {"intra_share": ""}, low=0),
    Panel(RANK, {"effective_rank": ""}, low=0, high=10),
    Panel("NMI with the last assignment", {"assignment_nmi": ""}, high=1),
    Panel("alignment of two views", {"alignment": ""}, low=0),
    Panel(SPREAD, {"uniformity": ""}, low=-1, high=0),
    Panel(CLUSTERS, {"empty": "empty", "singletons": "with one image"}, low=0, high=4),
    Panel("kNN accuracy", {"knn": ""}, share=True, low=0),
    Panel("images a second", {"images_per_second": ""}, low=0),
    Panel(TIME, {"data_wait": "data wait", "estep_share": "E-step"}, share=True, low=0, high=0.4),
)


def can_draw() -> bool:
    """Whether matplotlib is installed (extra `train`)."""
    return find_spec("matplotlib") is not None


def drawn(run: History, path: Path) -> tuple[Path | None, str]:
    """The picture's path, or None and the reason why there is none: nothing else fails for that."""
    if not can_draw():
        return None, "matplotlib is not installed: pip install 'pauc-hub[train]'"
    try:
        draw(run, path)
    except OSError as error:  # somebody else's run, or a full disk
        return None, f"'{path}' could not be written ({error.strerror})"
    return path, ""


def draw(run: History, path: Path) -> list[str]:
    """Write the picture; returns the titles of its panels, those for which the run has measured
    something.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = [
        panel for panel in PANELS if any(len(run.series(name)[0]) for name in panel.metrics)
    ] or [PANELS[0]]
    room = ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.06)  # inches
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(columns * WIDTH, rows * HEIGHT + 0.4), layout=room, dpi=110)
    FigureCanvasAgg(figure)  # never a window, whatever the user's own settings
    figure.suptitle(_headline(run), fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        _paint(axes, panel, run)
    for axes in grid[: len(panels)][-columns:]:
        axes.set_xlabel("epoch", fontsize=8, color=GREY)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return [panel.title for panel in panels]


def _headline(run: History) -> str:
    config = run.config
    done = f"{run.epochs_done} of {config.epochs} epochs"
    shaded = "; shaded: warm-up" if config.objective != "infonce" else ""
    return f"{config.objective}, {config.architecture} at {config.size} px, {done}{shaded}"


def _paint(axes: "Axes", panel: Panel, run: History) -> None:
    curves = {
        name: run.series(metric) for metric, name in panel.metrics.items() if run.series(metric)[0]
    }
    _dress(axes, panel, run)
    if panel.title == LOSS:
        _chance(axes, run)
        axes.plot(
            *_thinned(_of_steps(run, "infonce")),
            color=FAINT if curves else INK,
            linewidth=0.8,
            zorder=1,
        )
    for tone, (places, values) in zip(
        TONES if len(curves) > 1 else (INK,), curves.values(), strict=False
    ):
        axes.plot(
            places,
            values,
            color=tone,
            linewidth=1.5,
            marker="o" if len(places) <= FEW else "",
            markersize=2.5,
        )
    _widen(axes, panel)
    if len(curves) > 1:
        _name_ends(axes, curves)


def _widen(axes: "Axes", panel: Panel) -> None:
    """To what the panel shows at least, ending at 0 where nothing lies beyond."""
    low, high = axes.get_ylim()
    if panel.low is not None:
        low = 0 if panel.low == 0 else min(low, panel.low)
    if panel.high is not None:
        high = 0 if panel.high == 0 else max(high, panel.high)
    axes.set_ylim(low, high)


def _dress(axes: "Axes", panel: Panel, run: History) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    config = run.config
    axes.set_title(panel.title, fontsize=10, loc="left", pad=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, color=GREY)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(0, max(1, run.epochs_done, *_of_steps(run, "loss")[0][-1:]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if config.objective != "infonce":  # plain InfoNCE all along has no other phase
        axes.axvspan(0, config.warmup_epochs, color=SHADE, zorder=0, linewidth=0)


def _chance(axes: "Axes", run: History) -> None:
    """Where a query that finds nothing has its loss."""
    chance = math.log((run.config.queue or 0) + 1)
    axes.axhline(chance, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f"chance: ln(queue + 1) = {chance:.2f}",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color=GREY,
    )


def _name_ends(axes: "Axes", curves: Mapping[str, Curve]) -> None:
    """Each curve's name at its right end, moved up where it would stand on another."""
    low, high = axes.get_ylim()
    ends = {name: (values[-1] - low) / (high - low) for name, (_, values) in curves.items()}
    height = -math.inf
    tones = dict(zip(curves, TONES, strict=False))
    for name in sorted(ends, key=ends.__getitem__):
        height = max(height + APART, ends[name])
        axes.annotate(
            name,
            (1, height),
            xycoords="axes fraction",
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=tones[name],
            annotation_clip=False,
        )


def _of_steps(run: History, name: str) -> Curve:
    told = [line for line in run.steps if line.get(name) is not None]
    steps = max(1, run.steps_an_epoch)
    return [line["epoch"] + line["step"] / steps for line in told], [line[name] for line in told]


def _thinned(curve: Curve) -> Curve:
    size = math.ceil(max(1, len(curve[0])) / FINEST)
    first, second = (
        [fmean(part[i : i + size]) for i in range(0, len(part), size)] for part in curve
    )
    return first, second
