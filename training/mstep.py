"""The M-step's loss: which terms an objective has, with which weights, over all clusterings (method.md §2, §4)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation

PAUC_TERMS = ("align", "unif", "corr")


@dataclass(frozen=True)
class Views:
    """What the networks made of one batch, seen one way.

    Attributes:
        q: (N, D) queries, with gradient.
        k: (N, D) keys, constant.
        queue: (R, D) past keys, constant.
        index: (N,) int64, which images these are.
    """

    q: Tensor
    k: Tensor
    queue: Tensor
    index: Tensor


def loss_terms(
    views: Views, expectation: Expectation | None, config: Config, generator: torch.Generator
) -> dict[str, Tensor]:
    """Unweighted terms by name; those over prototypes are means over the M clusterings.

    Before the first E-step there are no prototypes, and InfoNCE stands alone.
    """
    terms = {"infonce": objectives.info_nce(views.q, views.k, views.queue, config.temperature)}
    if expectation is None or config.objective == "infonce":
        return terms
    per_clustering = []
    for prototypes, assignment in zip(expectation.prototypes, expectation.assignments, strict=True):
        own = assignment[views.index]
        found = {}
        if config.objective == "protonce" or config.weight_proto > 0:
            chosen, target = objectives.choose_prototypes(own, len(prototypes.sizes), config.negatives, generator)
            found["proto"] = objectives.proto_nce(
                views.q, prototypes.centroids[chosen], prototypes.concentrations[chosen], target
            )
        if config.objective == "pauc":
            p, p_key = objectives.batch_prototypes(views.q, own), objectives.batch_prototypes(views.k, own)
            found["align"] = objectives.alignment(p, p_key)
            found["unif"] = objectives.uniformity(p)
            found["corr"] = objectives.correlation(p, p_key, config.correlation_lambda)
        per_clustering.append(found)
    return terms | {name: torch.stack([found[name] for found in per_clustering]).mean() for name in per_clustering[0]}


def term_weights(config: Config, epoch: float) -> dict[str, float]:
    """The weight of each term at a point of training; PAUC's ramp up linearly after the warm-up (method.md §4).

    Args:
        epoch: epochs done, with the fraction of the running one.
    """
    if config.objective == "protonce":
        return {"infonce": 1.0, "proto": 1.0}
    ramp_epochs = max(config.ramp * config.epochs, 1e-9)
    ramp = min(1.0, max(0.0, (epoch - config.warmup_epochs) / ramp_epochs))
    weights = {
        "proto": config.weight_proto,
        "align": config.weight_align,
        "unif": config.weight_unif,
        "corr": config.weight_corr,
    }
    return {"infonce": 1.0} | {name: ramp * weight for name, weight in weights.items()}


def total(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Weighted sum of the terms that are there."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
