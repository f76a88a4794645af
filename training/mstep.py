"""The M-step: one batch through the networks, its loss back through the queries (method.md §2, §4)."""

import math

import torch
from torch import Tensor

from pauc_hub.device import autocast
from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.data import TwoViews
from pauc_hub.training.draws import Purpose, torch_draws
from pauc_hub.training.estep import Expectation
from pauc_hub.training.state import Training


def learn(state: Training, batch: TwoViews) -> dict[str, Tensor]:
    """One step of the optimiser; the momentum encoder and the queue follow.

    Returns:
        () loss, its unweighted terms, and the alignment that is watched (method.md §6), detached; symmetric training's
        are means over both sides.
    """
    config, pair = state.config, state.pair
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, state.epoch * state.steps + state.step, config.epochs * state.steps)
    rows = state.world.stretch(config.batch_size)
    first = state.augment(batch.first.to(state.device), _draws(state, Purpose.AUGMENT, 0), config.batch_size, rows)
    second = state.augment(batch.second.to(state.device), _draws(state, Purpose.AUGMENT, 1), config.batch_size, rows)
    index = state.world.gather(batch.index.to(state.device), config.batch_size)
    queue = pair.queue.rows.clone()
    sides, keys, gaps = [], [], []
    for side, (shown, other) in enumerate([(first, second), (second, first)][: 1 + config.symmetric]):
        with autocast(state.device, state.dtype):
            q, k = pair.queries(shown), pair.keys(other, _draws(state, Purpose.SHUFFLE, side))
        draws = _draws(state, Purpose.NEGATIVES, side)
        sides.append(
            {"infonce": objectives.info_nce(q, k, queue, config.temperature)}
            | prototype_terms(q, k, index, state.expectation, config, draws)
        )
        keys.append(k)
        gaps.append((q.detach() - k).square().sum(dim=1).mean())
    terms = {name: torch.stack([side[name] for side in sides]).mean() for name in sides[0]}
    weights = term_weights(config, state.epoch + state.step / state.steps)
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    state.optimiser.zero_grad()
    torch.autograd.backward(loss)
    state.world.sum_gradients(pair.query.parameters())
    state.optimiser.step()
    pair.follow(config.momentum)
    pair.queue.push(torch.cat(keys))
    watched = {"loss": loss.detach(), "alignment": torch.stack(gaps).mean()}
    return watched | {name: term.detach() for name, term in terms.items()}


def prototype_terms(
    q: Tensor, k: Tensor, index: Tensor, expectation: Expectation | None, config: Config, draws: torch.Generator
) -> dict[str, Tensor]:
    """The terms over prototypes, unweighted, each the mean over the M clusterings; none before the first E-step.

    Args:
        q: (N, D) queries, with gradient.
        k: (N, D) keys, constant.
        index: (N,) int64, which images these are.
    """
    if expectation is None or config.objective == "infonce":
        return {}
    clusterings = []
    for prototypes, assignment in zip(expectation.prototypes, expectation.assignments, strict=True):
        own, found = assignment[index], {}
        if config.objective == "protonce" or config.weight_proto > 0:
            chosen, target = objectives.choose_prototypes(own, len(prototypes.sizes), config.negatives, draws)
            centroids, concentrations = prototypes.centroids[chosen], prototypes.concentrations[chosen]
            found["proto"] = objectives.proto_nce(q, centroids, concentrations, target)
        if config.objective == "pauc":
            p, p_key = objectives.batch_prototypes(q, own), objectives.batch_prototypes(k, own)
            found["align"] = objectives.alignment(p, p_key)
            found["unif"] = objectives.uniformity(p)
            found["corr"] = objectives.correlation(p, p_key, config.correlation_lambda)
        clusterings.append(found)
    return {name: torch.stack([found[name] for found in clusterings]).mean() for name in clusterings[0]}


def term_weights(config: Config, epoch: float) -> dict[str, float]:
    """The weight of each term; PAUC's rise linearly from 0 after the warm-up (method.md §4).

    Args:
        epoch: epochs done, with the fraction of the running one.
    """
    if config.objective == "protonce":
        return {"infonce": 1.0, "proto": 1.0}
    rise = config.ramp * config.epochs
    share = min(1.0, max(0.0, (epoch - config.warmup_epochs) / rise)) if rise > 0 else 1.0
    return {
        "infonce": 1.0,
        "proto": share * config.weight_proto,
        "align": share * config.weight_align,
        "unif": share * config.weight_unif,
        "corr": share * config.weight_corr,
    }


def learning_rate(config: Config, done: int, steps: int) -> float:
    """Of the next step: a linear rise to the peak, then a cosine to 0.

    Args:
        done: steps of the whole run that are over.
        steps: of the whole run.
    """
    rise = config.lr_warmup * steps
    if done < rise:
        return config.peak_lr * min(1.0, (done + 1) / rise)
    return config.peak_lr * (1 + math.cos(math.pi * (done - rise) / (steps - rise))) / 2


def _draws(state: Training, purpose: Purpose, side: int) -> torch.Generator:
    return torch_draws(state.config.seed, purpose, state.epoch, state.step, side)
