"""The M-step: one batch through the networks, its loss back through the queries (method.md §2,
§4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from pauc_hub.device import autocast, choose_precision
from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation
from pauc_hub.training.members import (
    Members,
    PastMembers,
    batch_members,
    batch_prototypes,
    choose_prototypes,
    past_members,
    share_alone,
)
from pauc_hub.training.networks.encoder import MomentumPair, Queue
from pauc_hub.training.rng import Purpose, torch_draws
from pauc_hub.training.schedule import Moment, key_momentum, learning_rate, term_weights


@dataclass(frozen=True)
class Shown:
    """A batch as the networks see it.

    N images of this process, S side of the full views, s that of the small ones.
    """

    index: Tensor
    """(N,) int64, which images these are."""
    first: Tensor
    """(N, 3, S, S) float32, augmented and normalised."""
    second: Tensor
    """The same of the other view."""
    small: tuple[Tensor, ...] = ()
    """(N, 3, s, s) float32 each, of smaller views (method.md §1)."""


def learn(
    pair: MomentumPair,
    optimiser: Optimizer,
    batch: Shown,
    expectation: Expectation | None,
    config: Config,
    moment: Moment,
) -> dict[str, Tensor]:
    """One step of the optimiser; the momentum encoder and the queue follow.

    Args:
        expectation: the last E-step's result; None during the warm-up.
        moment: decides learning rate, momentum, the weights of the terms, and what is drawn by lot.

    Returns:
        () loss, its unweighted terms, and the alignment that is watched (method.md §6), detached;
        symmetric training's are means over both sides.
    """
    total = config.epochs * moment.steps
    for group in optimiser.param_groups:
        group["lr"] = group.get("scale", 1.0) * learning_rate(config, moment.done, total)
    index = pair.world.gather(batch.index, config.batch_size)
    terms, keys, alignment = _terms(pair, batch, index, expectation, config, moment)
    weights = term_weights(config, moment.epoch + moment.step / moment.steps)
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    pair.world.sum_gradients(pair.query.parameters())
    optimiser.step()
    pair.follow(key_momentum(config, moment.done, total))
    pair.queue.push(torch.cat(keys), index.repeat(len(keys)))
    watched = {"loss": loss.detach(), "alignment": alignment} | _watched(index, expectation, config)
    return watched | {name: term.detach() for name, term in terms.items()}


def _terms(
    pair: MomentumPair,
    batch: Shown,
    index: Tensor,
    expectation: Expectation | None,
    config: Config,
    moment: Moment,
) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
    """The terms of the loss, means over the sides; the (n, D) keys of each side; and the ()
    alignment.

    Args:
        index: (n,) int64, the images of all processes.
    """
    device = batch.first.device
    dtype = choose_precision(config.precision, device)
    sides = [(batch.first, batch.second), (batch.second, batch.first)][: 1 + config.symmetric]
    # keys first: what they take is free again when the queries' graphs grow
    with autocast(device, dtype):
        keys = [
            pair.keys(key, _draws(config, Purpose.SHUFFLE, moment, side))
            for side, (_, key) in enumerate(sides)
        ]
        small = [pair.small_queries(view) for view in batch.small]
    queries_each = 1 + len(small)
    images = index.repeat(queries_each)
    masked = pair.queue.masked(images, own=config.mask_own_keys)
    found, gaps = [], []
    for side, ((view, _), key) in enumerate(zip(sides, keys, strict=True)):
        with autocast(device, dtype):
            q = torch.cat([pair.queries(view), *small])
        k = key.repeat(queries_each, 1)
        draws = _draws(config, Purpose.NEGATIVES, moment, side)
        found.append(
            {"infonce": objectives.info_nce(q, k, pair.queue.rows, config.temperature, masked)}
            | prototype_terms(q, k, images, pair.queue, expectation, config, draws)
        )
        gaps.append((q[: len(key)].detach() - key).square().sum(dim=1).mean())
    means = {name: torch.stack([side[name] for side in found]).mean() for name in found[0]}
    return means, keys, torch.stack(gaps).mean()


def prototype_terms(
    q: Tensor,
    k: Tensor,
    index: Tensor,
    queue: Queue,
    expectation: Expectation | None,
    config: Config,
    draws: torch.Generator,
) -> dict[str, Tensor]:
    """The terms over prototypes, unweighted, each the mean over the M clusterings; none before the
    first E-step.

    Args:
        q: (N, D) queries, with gradient.
        k: (N, D) keys, constant.
        index: (N,) int64, which images these are.
        queue: past keys, constant.
    """
    if expectation is None or config.objective == "infonce":
        return {}
    clusterings = []
    for prototypes, assignment in zip(expectation.prototypes, expectation.assignments, strict=True):
        members, found = batch_members(assignment[index]), {}
        if config.objective == "protonce" or config.weight_proto > 0:
            count = len(prototypes.sizes)
            chosen, there, target = choose_prototypes(members, count, config.negatives, draws)
            centroids = prototypes.centroids[chosen]
            concentrations = prototypes.concentrations[chosen]
            found["proto"] = objectives.proto_nce(q, centroids, concentrations, target, there)
        if config.objective == "pauc" and config.prototypes_from == "bank":
            found |= _bank_terms(q, prototypes.centroids, assignment[index], config)
        elif config.objective == "pauc":
            past = None
            if config.prototypes_from == "batch_and_queue":
                past = _past_members(members, queue, assignment, len(prototypes.sizes))
            p, p_key = (batch_prototypes(x, members, past) for x in (q, k))
            found |= _batch_terms(p, p_key, members.there, config)
        clusterings.append(found)
    return {
        name: torch.stack([found[name] for found in clusterings]).mean() for name in clusterings[0]
    }


def _batch_terms(p: Tensor, p_key: Tensor, there: Tensor, config: Config) -> dict[str, Tensor]:
    """PAUC over prototypes made from the batch (method.md §4)."""
    found = {
        "align": objectives.alignment_loss(p, p_key, there),
        "unif": objectives.uniformity_loss(p, there),
        "corr": objectives.correlation_loss(p, p_key, there, config.correlation_lambda),
    }
    if config.weight_scatter > 0:
        found["scatter"] = objectives.scattering(p, p_key, there)
    return found


def _bank_terms(q: Tensor, centroids: Tensor, own: Tensor, config: Config) -> dict[str, Tensor]:
    """PAUC over each image and its prototype of the E-step (method.md §4, reading B)."""
    c, every = centroids[own], torch.ones_like(q[:, 0])
    return {
        "align": objectives.alignment_loss(q, c, every),
        "unif": objectives.uniformity_apart(q, own),
        "corr": objectives.correlation_loss(q, c, every, config.correlation_lambda),
    }


def _past_members(members: Members, queue: Queue, assignment: Tensor, count: int) -> PastMembers:
    """What the queue holds of the batch's prototypes; keys of unknown images are left out."""
    own = assignment[queue.index].where(queue.index >= 0, -1)
    return past_members(members, queue.rows, own, count)


def _watched(index: Tensor, expectation: Expectation | None, config: Config) -> dict[str, Tensor]:
    """The share of a batch's images that are alone with their prototype there: to them PAUC is
    between images.
    """
    if expectation is None or config.objective != "pauc":
        return {}
    shares = [share_alone(assignment[index]) for assignment in expectation.assignments]
    return {"batch_singletons": torch.stack(shares).mean()}


def _draws(config: Config, purpose: Purpose, moment: Moment, side: int) -> torch.Generator:
    return torch_draws(config.seed, purpose, moment.epoch, moment.step, side)
