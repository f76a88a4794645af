"""How features separate without a classifier: k-means beside the classes, and geometry. N images, D
width.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.evaluation.folds import Numbers, Targets
from pauc_hub.evaluation.geometry import (
    adjusted_mutual_information,
    correlation,
    intra_share,
    jackknife,
    matched_accuracy,
)
from pauc_hub.evaluation.intervals import DRAWS, over_draws
from pauc_hub.evaluation.metrics import effective_rank, nmi, uniformity
from pauc_hub.evaluation.partitions import adjusted_rand

SAMPLE = 2048
"""Images that the measures of geometry look at."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """K-means with as many clusters as classes."""

    scores: dict[str, Any]
    """By measure; means over DRAWS seeds."""
    covers: str
    left_out: dict[str, str]
    assignment: Numbers
    """(N,) of the first seed."""


def measure_clusters(
    points: Tensor, targets: Targets, classes: int, seed: int, advance: Callable[[int], None]
) -> Clusters:
    """Cluster unit rows, and compare the clusters with the classes where each image has one.

    Args:
        points: (N, D) of unit length.
    """
    k = min(classes, len(points))
    measures, left_out = _measures(targets)
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    first: Numbers | None = None
    for attempt in range(DRAWS):
        found = (
            kmeans(points, k, seed=seed + attempt, spherical=True)
            .assignment.numpy()
            .astype(np.int64)
        )
        first = found if first is None else first
        for name, measure in measures.items():
            drawn[name].append(measure(found, targets))
        advance(1)
    assert first is not None
    scores = {}
    for name, values in drawn.items():
        low, high = over_draws(values)
        scores[name] = {"value": float(np.mean(values)), "low": low, "high": high, "draws": values}
    covers = (
        f"Student's t over {DRAWS} seeds of k-means with K = {k}; the images are taken as they are"
    )
    return Clusters(scores, covers, left_out, first)


def measure_geometry(
    points: Tensor, clusters: Numbers, groups: Numbers | None, seed: int
) -> dict[str, Any]:
    """Uniformity, correlation, effective rank and intra_share of unit rows, on SAMPLE of them at
    most.

    Args:
        points: (N, D) of unit length.
        clusters: (N,)
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(points))[:SAMPLE])
    sample = points[torch.from_numpy(rows)]
    own = torch.from_numpy(clusters[rows])
    parts = None if groups is None else groups[rows]
    measures: dict[str, Callable[[Tensor], float]] = {
        "uniformity": lambda kept: uniformity(sample[kept]),
        "correlation": lambda kept: correlation(sample[kept]),
        "effective_rank": lambda kept: effective_rank(sample[kept]),
        "intra_share": lambda kept: intra_share(sample[kept], own[kept]),
    }
    found = {}
    for name, measure in measures.items():

        def of_rows(
            kept: npt.NDArray[np.bool_], measure: Callable[[Tensor], float] = measure
        ) -> float:
            return measure(torch.from_numpy(kept))

        low, high = jackknife(of_rows, len(rows), parts, seed)
        found[name] = {"value": of_rows(np.ones(len(rows), np.bool_)), "low": low, "high": high}
    return found


def _measures(
    targets: Targets,
) -> tuple[dict[str, Callable[[Numbers, Numbers], float]], dict[str, str]]:
    """What can be measured here, and why the rest cannot."""
    if targets.ndim == 2:
        return {}, {"clustering": "needs one label an image"}
    measures: dict[str, Callable[[Numbers, Numbers], float]] = {
        "nmi": lambda found, true: nmi(torch.from_numpy(found), torch.from_numpy(true)),
        "ari": lambda found, true: adjusted_rand(torch.from_numpy(found), torch.from_numpy(true)),
    }
    left_out = {}
    lacking = "needs the extra eval: `pip install 'pauc-hub[eval]'`"
    for name, module, measure in (
        ("ami", "sklearn", adjusted_mutual_information),
        ("accuracy", "scipy", matched_accuracy),
    ):
        if importlib.util.find_spec(module) is None:
            left_out[f"clustering {name}"] = lacking
        else:
            measures[name] = measure
    return measures, left_out
