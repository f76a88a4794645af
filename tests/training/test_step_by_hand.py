"""Steps of the M-step against plain float64 ones, written from method.md alone: slow, and one image
after another.
"""

from dataclasses import dataclass, field
from math import cos, pi
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation
from pauc_hub.training.mstep import Shown, learn
from pauc_hub.training.networks.encoder import Encoder, MomentumPair
from pauc_hub.training.optimiser import new_optimiser
from pauc_hub.training.rng import Purpose, torch_draws
from pauc_hub.training.schedule import Moment

IMAGES, BATCH, GROUP, DIM, QUEUE = 192, 64, 32, 8, 160
EPOCHS, STEPS = 3, 3
EPOCH = 1  # after the warm-up
CONFIG = Config(
    architecture="test_resnet",
    size=32,
    batch_size=BATCH,
    norm_group=GROUP,
    epochs=EPOCHS,
    lr=0.4,
    lr_warmup=0.0,
    weight_decay=0.01,
    momentum=0.9,
    dim=DIM,
    queue=QUEUE,
    # full within the second of the steps that are compared
    ramp=0.5,
    warmup=1 / 3,
    clusters=(3, 6),
    precision="fp32",
)
Terms = dict[str, Tensor]


@dataclass
class ByHand:
    """What a step depends on and changes, in float64."""

    config: Config
    query: Encoder
    key: Encoder
    queue: Tensor
    expectation: Expectation
    position: int = 0
    images: list[int] = field(default_factory=lambda: [-1] * QUEUE)
    velocity: Terms = field(default_factory=dict)

    def learn(
        self, first: Tensor, second: Tensor, small: list[Tensor], index: Tensor, step: int
    ) -> Terms:
        """Views (N, 3, S, S); returns loss and unweighted terms."""
        config = self.config
        done, total = EPOCH * STEPS + step, EPOCHS * STEPS
        sides = [(first, second), (second, first)] if config.symmetric else [(first, second)]
        keys, terms = [], []
        few = [self.small_queries(view) for view in small]
        many, one_each = index.repeat(1 + len(small)), index
        for side, (view, other) in enumerate(sides):
            k = self.keys(other, torch_draws(config.seed, Purpose.SHUFFLE, EPOCH, step, side))
            q = torch.cat([rows(self.query, group) for group in torch.split(view, GROUP)] + few)
            keys.append(k)
            k, index = k.repeat(1 + len(small), 1), many
            draws = torch_draws(config.seed, Purpose.NEGATIVES, EPOCH, step, side)
            found = {"infonce": info_nce(q, k, self.negatives(index), config.temperature)}
            clusterings = zip(
                self.expectation.prototypes, self.expectation.assignments, strict=True
            )
            each = [self.clustered(q, k, p, own[index].tolist(), draws) for p, own in clusterings]
            terms.append(found | {name: (each[0][name] + each[1][name]) / 2 for name in each[0]})
        mean = {
            name: sum((side[name] for side in terms), torch.zeros(())) / len(terms)
            for name in terms[0]
        }
        loss = sum(
            (weight * mean[name] for name, weight in self.weights(step).items()), torch.zeros(())
        )
        self.descend(loss, rate=config.lr * BATCH / 256 * (1 + cos(pi * done / total)) / 2)
        self.follow(done, total)
        self.enqueue(keys, one_each.tolist() * len(keys))
        return {name: term.detach() for name, term in ({"loss": loss} | mean).items()}

    def keys(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Each image's key, made among strangers."""
        order = torch.randperm(BATCH, generator=draws)
        keys = torch.empty(BATCH, DIM, dtype=torch.float64)
        with torch.no_grad():
            for group in torch.split(order, GROUP):
                keys[group] = rows(self.key, images[group])
        return keys

    def small_queries(self, view: Tensor) -> Tensor:
        """Running statistics do not see small views."""
        before = {name: each.clone() for name, each in self.query.named_buffers()}
        q = torch.cat([rows(self.query, group) for group in torch.split(view, GROUP)])
        for name, each in self.query.named_buffers():
            # past autograd, which has noted it
            each.data.copy_(before[name])
        return q

    def negatives(self, index: Tensor) -> list[Tensor]:
        """Of each image, all past keys but its own."""
        own = [torch.tensor([image == each for each in self.images]) for image in index.tolist()]
        return [self.queue[~mine] if self.config.mask_own_keys else self.queue for mine in own]

    def clustered(
        self, q: Tensor, k: Tensor, found: Prototypes, own: list[int], draws: torch.Generator
    ) -> Terms:
        c, phi, hit = found.centroids.double(), found.concentrations.double(), sorted(set(own))
        chosen = list(range(len(c)))
        if len(c) > self.config.negatives:
            place = torch.rand(len(c), generator=draws).tolist()
            rest = sorted((j for j in chosen if j not in hit), key=place.__getitem__)
            chosen = hit + rest[: self.config.negatives]
        proto = [
            -F.log_softmax(c[chosen] @ q[i] / phi[chosen], dim=0)[chosen.index(s)]
            for i, s in enumerate(own)
        ]
        terms = {"proto": torch.stack(proto).mean()}
        if self.config.objective == "protonce":
            return terms
        p, p_key = (
            torch.stack([F.normalize(x[torch.tensor(own) == a].mean(0), dim=0) for a in hit])
            for x in (q, k)
        )
        pairs = [(p[a] - p[b]).square().sum() for a in range(len(hit)) for b in range(a)]
        x = standardised(p).T @ standardised(p_key) / len(hit)
        off = [x[d, e] ** 2 for d in range(DIM) for e in range(DIM) if d != e]
        return terms | {
            "align": (p - p_key).square().sum(1).mean(),
            "unif": torch.stack([torch.exp(-2 * pair) for pair in pairs]).mean().log(),
            "corr": (1 - x.diagonal()).square().mean()
            + self.config.correlation_lambda * torch.stack(off).mean(),
        }

    def weights(self, step: int) -> dict[str, float]:
        config = self.config
        if config.objective == "protonce":
            return {"infonce": 1.0, "proto": 1.0}
        share = min(1.0, step / STEPS / (config.ramp * EPOCHS))
        rising = {"proto": config.weight_proto, "align": 0.3, "unif": 0.15, "corr": 0.3}
        return {"infonce": 1.0} | {name: share * weight for name, weight in rising.items()}

    def descend(self, loss: Tensor, rate: float) -> None:
        """SGD with momentum 0.9; biases and norms do not decay."""
        named = dict(self.query.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()))
        with torch.no_grad():
            for (name, weight), gradient in zip(named.items(), gradients, strict=True):
                decayed = (
                    gradient + self.config.weight_decay * weight if weight.ndim > 1 else gradient
                )
                self.velocity[name] = 0.9 * self.velocity.get(name, 0.0) + decayed
                weight.sub_(rate * self.velocity[name])

    def follow(self, done: int, total: int) -> None:
        m = self.config.momentum
        if self.config.momentum_rises:
            m = 1 - (1 - m) * (1 + cos(pi * done / total)) / 2
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
                slow.copy_(m * slow + (1 - m) * fast)

    def go_on_from(self, pair: MomentumPair) -> None:
        """So that roundings of one step do not grow in the next."""
        self.query.load_state_dict(pair.query.state_dict())
        self.key.load_state_dict(pair.key.state_dict())
        self.queue.copy_(pair.queue.rows)

    def enqueue(self, keys: list[Tensor], images: list[int]) -> None:
        for key, image in zip(torch.cat(keys), images, strict=True):
            self.queue[self.position % QUEUE] = key
            self.images[self.position % QUEUE] = image
            self.position += 1


def rows(encoder: Encoder, images: Tensor) -> Tensor:
    """Unit rows in float64; the projector's own forward rounds to float32."""
    head = encoder.projector
    projected = head.output(F.relu(head.hidden(encoder.backbone(images))))
    unit: Tensor = projected / projected.norm(dim=1, keepdim=True)
    return unit


def info_nce(q: Tensor, k: Tensor, others: list[Tensor], temperature: float) -> Tensor:
    losses = []
    for query, key, past in zip(q, k, others, strict=True):
        positive, negatives = query @ key / temperature, past @ query / temperature
        losses.append(-(positive - torch.log(positive.exp() + negatives.exp().sum())))
    return torch.stack(losses).mean()


def standardised(p: Tensor) -> Tensor:
    return (p - p.mean(0)) / (p.var(0, unbiased=False) + 1e-6).sqrt()


def begun(**settings: Any) -> tuple[MomentumPair, ByHand]:
    """The same, to be learnt with in both ways; its second epoch begins."""
    config = Config(**CONFIG.__dict__ | settings)
    torch.manual_seed(1)
    pair = MomentumPair(config.architecture, DIM, QUEUE, GROUP, size=config.size)
    draws = torch.Generator().manual_seed(1)
    prototypes, assignments = [], []
    for count in (3, 6):
        centroids = F.normalize(torch.randn(count, DIM, generator=draws), dim=1)
        phi = torch.linspace(0.1, 0.3, count)
        prototypes.append(
            Prototypes(centroids, phi, torch.ones(count, dtype=torch.int64), torch.ones(count))
        )
        assignments.append(torch.randint(count - 1, (IMAGES,), generator=draws))
    expectation = Expectation(tuple(prototypes), tuple(assignments))
    # the two encoders, and what each has seen, differ
    for weight in pair.query.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=draws)
    networks = [Encoder(config.architecture, DIM) for _ in range(2)]
    for plain, mine in zip(networks, (pair.query, pair.key), strict=True):
        plain.load_state_dict(mine.state_dict())
    query, key = (network.double() for network in networks)
    return pair, ByHand(config, query, key, pair.queue.rows.double(), expectation)


def batches(small_views: int) -> list[Shown]:
    """Two, of which the second has half of the first's images."""
    draws, found = torch.Generator().manual_seed(0), []
    order = torch.randperm(IMAGES, generator=draws)
    for index in (order[:BATCH], order[BATCH // 2 : BATCH // 2 + BATCH]):
        first, second = (coarse(8, draws) for _ in range(2))
        small = [coarse(4, draws) for _ in range(small_views)]
        found.append(Shown(index, first, second, tuple(small)))
    return found


def coarse(pixels: int, draws: torch.Generator) -> Tensor:
    """(N, 3, 4 pixels, 4 pixels) squares of so many pixels, each of one colour, as normalised
    images have them.
    """
    colours = (torch.randint(256, (BATCH, 3, 4, 4), generator=draws) / 255 - 0.45) / 0.225
    return colours.repeat_interleave(pixels, dim=2).repeat_interleave(pixels, dim=3)


def numbers(pair: MomentumPair) -> Terms:
    return {name: value.clone().double() for name, value in pair.state_dict().items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "protonce", "negatives": 1},
        {"objective": "protonce", "negatives": 1, "symmetric": True, "momentum_rises": True},
        {"objective": "pauc", "weight_proto": 0.5, "momentum_rises": True},
        {"objective": "pauc", "symmetric": True},
        {"objective": "pauc", "weight_proto": 0.5, "symmetric": True, "small_views": 2},
        {"objective": "pauc", "symmetric": True, "mask_own_keys": False},
    ],
    ids=str,
)
def test_two_steps_are_those_made_by_hand(settings: dict[str, Any]) -> None:
    pair, by_hand = begun(**settings)
    config = by_hand.config
    optimiser = new_optimiser(pair.query, config)
    for step, batch in enumerate(batches(config.small_views)):
        first, second = (view.double() for view in (batch.first, batch.second))
        small = [view.double() for view in batch.small]
        before = numbers(pair)
        terms = learn(
            pair, optimiser, batch, by_hand.expectation, config, Moment(EPOCH, step, STEPS)
        )
        expected = by_hand.learn(first, second, small, batch.index, step)
        for name, value in expected.items():
            if name != "proto" or config.objective == "protonce" or config.weight_proto:
                assert terms[name].item() == pytest.approx(value.item(), rel=3e-3), name
        agree(before, numbers(pair), by_hand)
        by_hand.go_on_from(pair)


def agree(before: Terms, after: Terms, by_hand: ByHand) -> None:
    """All that a step changes lies where it should, to a small share of the way it went."""
    expected: Terms = {
        "queue.rows": by_hand.queue,
        "queue.index": torch.tensor(by_hand.images),
        "queue.position": torch.tensor(by_hand.position % QUEUE),
    }
    for name, encoder in (("query", by_hand.query), ("key", by_hand.key)):
        expected |= {f"{name}.{each}": value for each, value in encoder.state_dict().items()}
    assert after.keys() == expected.keys()
    for name, value in expected.items():
        # a count that nothing reads; small views are counted, and change no statistics
        if name.endswith("num_batches_tracked"):
            continue
        way = (value.double() - before[name]).norm()
        # rounding turns a ReLU or two
        assert (after[name] - value).norm() <= 0.02 * way + 1e-6, name
