"""What training made of the weights that it started from (method.md §5). n images of a sample, D
width.
"""

import math
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.evaluation.metrics import effective_rank
from pauc_hub.files.atomic import replacing
from pauc_hub.training.monitoring.labelled import (
    LabelledImages,
    Split,
    backbone_features,
    knn_right,
)
from pauc_hub.training.run.run_folder import BEFORE, explained
from pauc_hub.training.state import Training

SAMPLE = 2048  # images of the run, spread evenly
NEIGHBOURS = 10  # of each image, that are compared
SEEN_FEATURES, RIGHT = "features", "right"


def measure_before(state: Training, labelled: LabelledImages | None) -> None:
    """Look at the encoder as it starts, and keep what was seen in the run's folder; unless a stop
    is asked for.
    """
    seen = _look(state, labelled)
    if seen is not None:
        path = state.run / BEFORE
        with explained(path), replacing(path) as file:
            file.write(safetensors.torch.save(seen))


def compare_with_start(state: Training, labelled: LabelledImages | None) -> dict[str, Any]:
    """Look again, at the encoder as it is now.

    Returns:
        `effective_rank` before and after, `neighbours` that stayed the same [share], `images` of
        the sample; with labels `knn`: accuracy `before` and `after` in [0, 1] on half of the images
        that are asked about, how many `questions` these are, and `kept`, which of the two was
        better on the other half. Empty where there was no look before.
    """
    path = state.run / BEFORE
    now = _look(state, labelled) if path.is_file() else None
    if now is None:
        return {}
    before = safetensors.torch.load_file(path)
    count = min(len(before[SEEN_FEATURES]), len(now[SEEN_FEATURES]))
    old, new = before[SEEN_FEATURES][:count], now[SEEN_FEATURES][:count]
    found: dict[str, Any] = {
        "from": state.config.weights_from,
        "images": count,
        "effective_rank": {"before": effective_rank(old), "after": effective_rank(new)},
        "neighbours": neighbour_agreement(old, new),
    }
    if RIGHT in before and RIGHT in now:
        found["knn"] = judged(before[RIGHT], now[RIGHT])
    return found


def judged(before: Tensor, after: Tensor) -> dict[str, Any]:
    """Choose by every second question, report on the others: what chose cannot be asked how good
    the choice was.

    Args:
        before, after: (n,) bool, which questions were answered rightly; classes stand together, so
            halves are alike.
    """
    chose, asked = slice(0, None, 2), slice(1, None, 2)
    kept = "before" if before[chose].sum() > after[chose].sum() else "after"
    return {
        "before": before[asked].double().mean().item(),
        "after": after[asked].double().mean().item(),
        "questions": len(before[asked]),
        "kept": kept,
    }


def neighbour_agreement(before: Tensor, after: Tensor) -> float:
    """Share of each image's nearest others, by cosine, that are among them before and after.

    Args:
        before, after: (n, D), of the same images; n > 1.
    """
    k = min(NEIGHBOURS, len(before) - 1)
    old, new = (_nearest(rows, k) for rows in (before, after))
    return (old.unsqueeze(2) == new.unsqueeze(1)).any(dim=2).double().mean().item()


def _nearest(rows: Tensor, k: int) -> Tensor:
    """(n, k) int64."""
    unit = F.normalize(rows.float(), dim=1)
    return (unit @ unit.T).fill_diagonal_(-2.0).topk(k, dim=1).indices


def told(found: Mapping[str, Any]) -> list[str]:
    """For people; without labels there is no judgement."""
    if not found:
        return []
    rank = found["effective_rank"]
    ranks = f"effective rank {rank['before']:.1f} and {rank['after']:.1f}"
    same = f"{100 * found['neighbours']:.0f} % of each image's nearest {NEIGHBOURS} are the same"
    lines = [f"before and after, on {found['images']} images: {ranks}; {same}"]
    if knn := found.get("knn"):
        best = "on the other half the trained weights were as good or better"
        if knn["kept"] == "before":
            best = "on the other half the weights from before were better"
        lines.append(
            f"kNN before and after, on {knn['questions']} labelled images: "
            f"{100 * knn['before']:.1f} % and "
            f"{100 * knn['after']:.1f} %; {best}: the model has them"
        )
    return lines


def made_worse(found: Mapping[str, Any]) -> bool:
    """By the labels, on either half."""
    knn = found.get("knn")
    return knn is not None and (knn["kept"] == "before" or knn["after"] < knn["before"])


def _look(state: Training, labelled: LabelledImages | None) -> dict[str, Tensor] | None:
    count = len(state.source)
    chosen = range(0, count, math.ceil(count / SAMPLE))
    split = Split("", state.source.subset(chosen), torch.zeros(len(chosen)))
    sample = backbone_features(split, state, lambda _: None)
    if sample is None or len(sample[0]) < 2:
        return None
    seen = {SEEN_FEATURES: sample[0].half().float().cpu()}
    if labelled is not None:
        right = knn_right(labelled, state)
        if right is None:
            return None
        seen[RIGHT] = right.cpu()
    return seen


def is_due(state: Training) -> bool:
    """Whether the encoder is as it started, and nobody has looked yet."""
    started = (state.epoch, state.step) == (0, 0)
    return bool(state.config.weights_from) and started and not (state.run / BEFORE).is_file()
