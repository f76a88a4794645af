"""The M-step: which terms an objective has, what a step does, and that parts of a batch give what
the whole gives.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.config_limits import PROTOTYPES_FROM
from pauc_hub.training.estep import Expectation
from pauc_hub.training.members import batch_members, batch_prototypes, choose_prototypes
from pauc_hub.training.mstep import Shown, learn, prototype_terms
from pauc_hub.training.networks.encoder import MomentumPair, Queue
from pauc_hub.training.optimiser import new_optimiser
from pauc_hub.training.rehearsal import _pretended
from pauc_hub.training.schedule import Moment, key_momentum

OWN = torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 2, 3, 1, 3]])
INDEX = torch.tensor([5, 0, 3, 2])
QUEUE = Queue(9, 8)


def unit(rows: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def expectation() -> Expectation:
    def prototypes(count: int) -> Prototypes:
        phi = torch.linspace(0.1, 0.3, count)
        return Prototypes(
            unit(count, count), phi, torch.ones(count, dtype=torch.int64), torch.ones(count)
        )

    return Expectation((prototypes(2), prototypes(4)), tuple(OWN))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(objective="infonce"), set()),
        (Config(objective="protonce"), {"proto"}),
        (Config(objective="pauc"), {"align", "unif", "corr"}),
        (Config(objective="pauc", weight_proto=0.1), {"proto", "align", "unif", "corr"}),
        (Config(objective="pauc", weight_scatter=0.1), {"align", "unif", "corr", "scatter"}),
        (Config(objective="pauc", prototypes_from="bank"), {"align", "unif", "corr"}),
        (Config(objective="pauc", prototypes_from="batch_and_queue"), {"align", "unif", "corr"}),
    ],
)
def test_each_objective_has_its_terms_and_none_before_the_first_e_step(
    config: Config, expected: set[str]
) -> None:
    q, k, draws = unit(4, 10), unit(4, 11), torch.Generator()
    assert set(prototype_terms(q, k, INDEX, QUEUE, expectation(), config, draws)) == expected
    assert prototype_terms(q, k, INDEX, QUEUE, None, config, draws) == {}


def test_terms_are_means_over_the_clusterings_with_each_images_own_prototype() -> None:
    q, k = unit(4, 10), unit(4, 11)
    found = prototype_terms(
        q, k, INDEX, QUEUE, expectation(), Config(weight_proto=1.0), torch.Generator()
    )
    proto, align = 0.0, 0.0
    for prototypes, own in zip(expectation().prototypes, OWN[:, INDEX], strict=True):
        proto += (
            objectives.proto_nce(q, prototypes.centroids, prototypes.concentrations, own).item() / 2
        )
        members = batch_members(own)
        p, p_key = (batch_prototypes(x, members) for x in (q, k))
        align += objectives.alignment_loss(p, p_key, members.there).item() / 2
    assert found["proto"].item() == pytest.approx(proto, rel=1e-5)
    assert found["align"].item() == pytest.approx(align, rel=1e-5)


Vectors = npt.NDArray[np.float64]


def pauc_by_hand(
    rows: list[tuple[Vectors, Vectors]], pairs: list[tuple[int, int]]
) -> dict[str, float]:
    """Align, Unif and Corr over the rows of two (A, D) matrices; and scattering."""
    p, p_key = (np.array([row[view] for row in rows]) for view in range(2))
    hat, hat_key = ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6) for x in (p, p_key))
    x, width = hat.T @ hat_key / len(p), p.shape[1]
    off = [x[d, e] ** 2 for d in range(width) for e in range(width) if d != e]
    scattered = []
    for a in range(len(p)):
        others = sum(np.exp(p[a] @ p[b] / 0.5) for b in range(len(p)) if b != a)
        positive = np.exp(p[a] @ p_key[a] / 0.5)
        scattered.append(-np.log(positive / (positive + others)))
    return {
        "align": float(np.mean([np.sum((mine - other) ** 2) for mine, other in rows])),
        "unif": float(np.log(np.mean([np.exp(-2 * np.sum((p[a] - p[b]) ** 2)) for a, b in pairs]))),
        "corr": float(np.mean([(1 - x[d, d]) ** 2 for d in range(width)]) + np.mean(off)),
        "scatter": float(np.mean(scattered)),
    }


@pytest.mark.parametrize("prototypes_from", PROTOTYPES_FROM)
def test_each_reading_is_that_of_plain_loops(prototypes_from: str) -> None:
    """Two of the queue's keys are of images of the batch, one is of a prototype that the batch does
    not hit.
    """
    index, images = torch.tensor([5, 0, 3]), [0, 4, -1, 1, 2, -1]
    q, k, queue = unit(3, 10), unit(3, 11), Queue(6, 8)
    queue.index.copy_(torch.tensor(images))
    config = Config(
        prototypes_from=prototypes_from, weight_scatter=0.1 * (prototypes_from != "bank")
    )
    found = prototype_terms(q, k, index, queue, expectation(), config, torch.Generator())
    expected = []
    for prototypes, own in zip(expectation().prototypes, OWN.tolist(), strict=True):
        mine = [own[i] for i in index.tolist()]
        if prototypes_from == "bank":
            centroids = prototypes.centroids.double().numpy()
            rows = [(q[i].double().numpy(), centroids[mine[i]]) for i in range(3)]
            pairs = [(i, j) for i in range(3) for j in range(3) if mine[i] != mine[j]]
        else:
            past = [(own[i], row) for i, row in zip(images, queue.rows, strict=True) if i >= 0]
            past = past if prototypes_from == "batch_and_queue" else []
            rows = []
            for a in sorted(set(mine)):
                old = [row for own_a, row in past if own_a == a]
                means = [
                    torch.stack([x[i] for i in range(3) if mine[i] == a] + old)
                    .mean(0)
                    .double()
                    .numpy()
                    for x in (q, k)
                ]
                rows.append(
                    (means[0] / np.linalg.norm(means[0]), means[1] / np.linalg.norm(means[1]))
                )
            pairs = [(a, b) for a in range(len(rows)) for b in range(a)]
        expected.append(pauc_by_hand(rows, pairs))
    for name, value in found.items():
        assert value.item() == pytest.approx(
            np.mean([each[name] for each in expected]), rel=1e-3
        ), name


@pytest.mark.parametrize("prototypes_from", PROTOTYPES_FROM)
def test_in_each_reading_gradient_reaches_the_queries_alone(prototypes_from: str) -> None:
    q, k, queue = unit(4, 10).requires_grad_(), unit(4, 11).requires_grad_(), Queue(6, 8)
    queue.rows.requires_grad_()
    queue.index.copy_(torch.tensor([0, 4, 1, 1, 2, 3]))
    found = prototype_terms(
        q,
        k,
        INDEX,
        queue,
        expectation(),
        Config(prototypes_from=prototypes_from),
        torch.Generator(),
    )
    for name, term in found.items():
        (gradient,) = torch.autograd.grad(term, q, retain_graph=True)
        assert gradient.abs().sum() > 0, name
        others = torch.autograd.grad(term, (k, queue.rows), retain_graph=True, allow_unused=True)
        assert list(others) == [None, None], name


def test_before_the_queue_is_filled_its_rows_belong_to_no_prototype() -> None:
    q, k = unit(4, 10), unit(4, 11)
    terms = [
        prototype_terms(
            q, k, INDEX, QUEUE, expectation(), Config(prototypes_from=each), torch.Generator()
        )
        for each in ("batch", "batch_and_queue")
    ]
    assert terms[1] == terms[0]


def test_with_few_negatives_the_concentrations_stay_with_their_prototypes() -> None:
    """Two hit prototypes of four and no others: the loss over these two alone, each with its own
    concentration.
    """
    # both of prototype 1 in the finer clustering
    given, index = expectation(), torch.tensor([1, 4])
    fine = Expectation(given.prototypes[1:], given.assignments[1:])
    q = unit(2, 12)
    found = prototype_terms(
        q,
        q,
        index,
        QUEUE,
        fine,
        Config(objective="protonce", negatives=1),
        torch.Generator().manual_seed(0),
    )
    members = batch_members(OWN[1, index])
    chosen, there, _ = choose_prototypes(members, 4, 1, torch.Generator().manual_seed(0))
    chosen, prototypes, first = chosen[there], fine.prototypes[0], torch.tensor([0, 0])
    expected = objectives.proto_nce(
        q, prototypes.centroids[chosen], prototypes.concentrations[chosen], first
    )
    assert len(chosen) == 2
    assert found["proto"].item() == pytest.approx(expected.item(), rel=1e-6)


@dataclass
class Learner:
    """What a step is made with, in the second of two epochs, of one step each."""

    pair: MomentumPair
    optimiser: torch.optim.Optimizer
    expectation: Expectation
    config: Config

    def learn(self, batch: Shown) -> dict[str, Tensor]:
        return learn(
            self.pair, self.optimiser, batch, self.expectation, self.config, Moment(1, 0, 1)
        )


def learner(device: str = "cpu", **settings: Any) -> Learner:
    """Of 64 images of 32 pixels."""
    config = Config(
        architecture="test_resnet",
        size=32,
        batch_size=64,
        norm_group=32,
        epochs=2,
        dim=8,
        queue=128,
        warmup=0.0,
        ramp=0.0,
        clusters=(3, 6),
        precision="fp32",
        **settings,
    )
    torch.manual_seed(0)
    pair = MomentumPair(config.architecture, 8, 128, 32, config.accumulate, size=32).to(device)
    return Learner(
        pair,
        new_optimiser(pair.query, config),
        _pretended(64, (3, 6), 8, torch.device(device)),
        config,
    )


def batch(small_views: int = 0, device: str = "cpu") -> Shown:
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.rand(64, 3, 32, 32, generator=draws).to(device) for _ in range(2))
    index = torch.randperm(64, generator=draws).to(device)
    small = [torch.rand(64, 3, 16, 16, generator=draws).to(device) for _ in range(small_views)]
    return Shown(index, first, second, tuple(small))


WHOLE_BATCH = [
    {"objective": "infonce"},
    {"objective": "protonce", "negatives": 2},
    {"objective": "pauc", "symmetric": True, "weight_proto": 0.5},
    {"objective": "pauc", "small_views": 1},
]


@pytest.mark.parametrize("settings", WHOLE_BATCH, ids=str)
def test_a_step_in_parts_is_the_step_of_the_whole(settings: dict[str, Any]) -> None:
    whole, parts = learner(**settings), learner(accumulate=2, **settings)
    before = {name: value.clone() for name, value in whole.pair.state_dict().items()}
    given = batch(whole.config.small_views)
    terms = [
        {name: value.item() for name, value in each.learn(given).items()} for each in (whole, parts)
    ]
    assert terms[1] == pytest.approx(terms[0], rel=1e-5)
    after, divided = whole.pair.state_dict(), parts.pair.state_dict()
    for name, value in after.items():
        if value.is_floating_point():
            step = (value - before[name]).norm()
            assert (divided[name] - value).norm() <= 1e-3 * step + 1e-7, name
    gradients = zip(whole.pair.query.parameters(), parts.pair.query.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5) for a, b in gradients)  # type: ignore[arg-type]


def test_a_step_moves_everything_and_its_momentum_follows_the_schedule() -> None:
    made = learner(momentum=0.5, momentum_rises=True)
    slow = {name: p.clone() for name, p in made.pair.key.named_parameters()}
    made.learn(batch())
    m = key_momentum(made.config, 1, 2)  # half of the run is over
    assert m == pytest.approx(0.75)
    fast = dict(made.pair.query.named_parameters())
    for name, value in made.pair.key.named_parameters():
        assert torch.allclose(value, m * slow[name] + (1 - m) * fast[name], atol=1e-6), name
    assert int(made.pair.queue.position) == 64
    assert all(not p.equal(slow[name]) for name, p in fast.items() if name.startswith("projector"))


def test_the_share_of_images_that_are_alone_with_their_prototype_is_told() -> None:
    made = learner(objective="pauc")
    # 2 of 64 images alone, and none
    own = (torch.arange(64).clamp(min=61) - 61, torch.arange(64) // 2)
    made.expectation = Expectation(made.expectation.prototypes, own)
    assert made.learn(batch())["batch_singletons"].item() == pytest.approx((2 / 64 + 0) / 2)
    assert "batch_singletons" not in learner(objective="protonce").learn(batch())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "settings",
    [*WHOLE_BATCH, {"accumulate": 2, "optimiser": "adamw"}, {"optimiser": "lars"}],
    ids=str,
)
def test_on_a_gpu_a_step_waits_for_nothing(settings: dict[str, Any]) -> None:
    made = learner("cuda", **({"lr": 0.001} | settings))
    given = batch(made.config.small_views, "cuda")
    made.learn(given)  # libraries choose their algorithms and take their memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = made.learn(given)["loss"]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(loss.isfinite())
