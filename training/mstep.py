"""The M-step: one batch through the networks, its loss back through the queries (method.md §2, §4)."""

import torch
from torch import Tensor

from pauc_hub.device import autocast
from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.data import TwoViews
from pauc_hub.training.estep import Expectation
from pauc_hub.training.rng import Purpose, torch_draws
from pauc_hub.training.schedule import key_momentum, learning_rate, term_weights
from pauc_hub.training.state import Training


def learn(state: Training, batch: TwoViews) -> dict[str, Tensor]:
    """One step of the optimiser; the momentum encoder and the queue follow.

    Returns:
        () loss, its unweighted terms, and the alignment that is watched (method.md §6), detached; symmetric training's
        are means over both sides.
    """
    config, pair = state.config, state.pair
    done, steps = state.epoch * state.steps + state.step, config.epochs * state.steps
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, done, steps)
    first, second = state.augment(batch.first, batch.draws[0]), state.augment(batch.second, batch.draws[1])
    index = state.world.gather(batch.index, config.batch_size)
    shown = [(first, second), (second, first)][: 1 + config.symmetric]
    with autocast(state.device, state.dtype):  # keys first: what they take is free again when the queries' graphs grow
        keys = [pair.keys(other, _draws(state, Purpose.SHUFFLE, side)) for side, (_, other) in enumerate(shown)]
    own = pair.queue.own_keys(index) if config.mask_own_keys else None
    sides, gaps = [], []
    for side, ((view, _), k) in enumerate(zip(shown, keys, strict=True)):
        with autocast(state.device, state.dtype):
            q = pair.queries(view)
        draws = _draws(state, Purpose.NEGATIVES, side)
        sides.append(
            {"infonce": objectives.info_nce(q, k, pair.queue.rows, config.temperature, own)}
            | prototype_terms(q, k, index, state.expectation, config, draws)
        )
        gaps.append((q.detach() - k).square().sum(dim=1).mean())
    terms = {name: torch.stack([side[name] for side in sides]).mean() for name in sides[0]}
    weights = term_weights(config, state.epoch + state.step / state.steps)
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    state.optimiser.zero_grad()
    torch.autograd.backward(loss)
    state.world.sum_gradients(pair.query.parameters())
    state.optimiser.step()
    pair.follow(key_momentum(config, done, steps))
    pair.queue.push(torch.cat(keys), index.repeat(len(keys)))
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
        members, found = objectives.batch_members(assignment[index]), {}
        if config.objective == "protonce" or config.weight_proto > 0:
            count = len(prototypes.sizes)
            chosen, there, target = objectives.choose_prototypes(members, count, config.negatives, draws)
            centroids, concentrations = prototypes.centroids[chosen], prototypes.concentrations[chosen]
            found["proto"] = objectives.proto_nce(q, centroids, concentrations, target, there)
        if config.objective == "pauc":
            p, p_key = objectives.batch_prototypes(q, members), objectives.batch_prototypes(k, members)
            found["align"] = objectives.alignment(p, p_key, members.there)
            found["unif"] = objectives.uniformity(p, members.there)
            found["corr"] = objectives.correlation(p, p_key, members.there, config.correlation_lambda)
        clusterings.append(found)
    return {name: torch.stack([found[name] for found in clusterings]).mean() for name in clusterings[0]}


def _draws(state: Training, purpose: Purpose, side: int) -> torch.Generator:
    return torch_draws(state.config.seed, purpose, state.epoch, state.step, side)
