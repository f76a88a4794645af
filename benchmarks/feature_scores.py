"""Scores of frozen features on labelled splits (method.md §7). N bank rows, M queries, D width, C
classes.
"""

import numpy as np
import numpy.typing as npt
import torch
from labelled_splits import Split

import pauc_hub
from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.evaluation.knn import knn_predict
from pauc_hub.evaluation.linear_probe import LabelledRows, Resources, fit_probe
from pauc_hub.evaluation.low_shot import low_shot_accuracy
from pauc_hub.evaluation.metrics import effective_rank, nmi
from pauc_hub.progress import progress_bar
from pauc_hub.training.monitoring.diagnostics import spread

K, TEMPERATURE, SEED = 200, 0.1, 0
# images between two updates of the bar
PART = 2048
RESTARTS = 5
RANK_ROWS = 4096

Features = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def embed(model: pauc_hub.Model, split: Split, what: str, space: str = "backbone") -> Features:
    """(N, D) features."""
    found = []
    with progress_bar(len(split.images), what) as bar:
        for start in range(0, len(split.images), PART):
            part = split.images[start : start + PART]
            found.append(model.embed(part, batch_size=256, space=space))
            bar.advance(len(part))
    return np.concatenate(found)


def knn_right(
    bank: Features, labels: Numbers, queries: Features, truth: Numbers
) -> npt.NDArray[np.bool_]:
    """(M,) whether the weighted vote of the K nearest is right; of a smaller bank all vote."""
    rows, votes, asked = (torch.from_numpy(each) for each in (bank, labels, queries))
    predicted = knn_predict(rows, votes, asked, k=min(K, len(rows)), temperature=TEMPERATURE)
    right: npt.NDArray[np.bool_] = predicted.numpy() == truth
    return right


def linear_accuracy(bank: Features, labels: Numbers, queries: Features, truth: Numbers) -> float:
    """Share in [0, 1] that the linear probe gets right; L2 is chosen on held-out rows of the
    bank.
    """
    data = LabelledRows(bank, labels, int(labels.max()) + 1)
    model = fit_probe(data, np.arange(len(labels)), Resources(), SEED).model
    predicted = model.logits(queries, np.arange(len(truth))).argmax(dim=1).numpy()
    return float((predicted == truth).mean())


def low_shot(
    bank: Features, labels: Numbers, queries: Features, truth: Numbers
) -> dict[str, float]:
    """Mean share that linear SVMs get right, of 5 draws, by images a class."""
    found = low_shot_accuracy(bank, labels, (queries, truth), None, SEED)
    return {str(shot.k): shot.mean for shot in found}


def clustering(features: Features, truth: Numbers) -> tuple[float, float]:
    """Accuracy under the best one-to-one matching, and NMI, of k-means with as many clusters as
    classes.
    """
    from scipy.optimize import linear_sum_assignment

    classes = int(truth.max()) + 1
    unit = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    assignment = kmeans(unit, classes, restarts=RESTARTS, seed=SEED, backend="torch").assignment
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (assignment.numpy(), truth), 1)
    matched = joint[linear_sum_assignment(-joint)].sum()
    return float(matched / len(truth)), nmi(assignment, torch.from_numpy(truth))


def intra_share(projected: Features, clusters: int) -> float:
    """Share of the variance within clusters of k-means: comparable for equal `clusters` only
    (method.md §6).
    """
    points = torch.from_numpy(projected)
    assignment = kmeans(points, clusters, seed=SEED, backend="torch").assignment
    return spread(points, assignment, clusters)["intra_share"]


def rank(projected: Features) -> float:
    """Effective rank of evenly spread rows."""
    step = max(1, len(projected) // RANK_ROWS)
    return effective_rank(torch.from_numpy(projected[::step]))
