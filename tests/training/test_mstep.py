"""The M-step: which terms an objective has, their weights over the run, and the learning rate."""

from math import cos, pi

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.folder import Prototypes
from pauc_hub.training import objectives
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation
from pauc_hub.training.mstep import learning_rate, prototype_terms, term_weights

OWN = torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 2, 3, 1, 3]])
INDEX = torch.tensor([5, 0, 3, 2])


def unit(rows: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def expectation() -> Expectation:
    def prototypes(count: int) -> Prototypes:
        phi = torch.linspace(0.1, 0.3, count)
        return Prototypes(unit(count, count), phi, torch.ones(count, dtype=torch.int64), torch.ones(count))

    return Expectation((prototypes(2), prototypes(4)), tuple(OWN))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(objective="infonce"), set()),
        (Config(objective="protonce"), {"proto"}),
        (Config(objective="pauc"), {"align", "unif", "corr"}),
        (Config(objective="pauc", weight_proto=0.1), {"proto", "align", "unif", "corr"}),
    ],
)
def test_each_objective_has_its_terms_and_none_before_the_first_e_step(config: Config, expected: set[str]) -> None:
    q, k, draws = unit(4, 10), unit(4, 11), torch.Generator()
    assert set(prototype_terms(q, k, INDEX, expectation(), config, draws)) == expected
    assert prototype_terms(q, k, INDEX, None, config, draws) == {}


def test_terms_are_means_over_the_clusterings_with_each_images_own_prototype() -> None:
    q, k = unit(4, 10), unit(4, 11)
    found = prototype_terms(q, k, INDEX, expectation(), Config(weight_proto=1.0), torch.Generator())
    proto, align = 0.0, 0.0
    for prototypes, own in zip(expectation().prototypes, OWN[:, INDEX], strict=True):
        proto += objectives.proto_nce(q, prototypes.centroids, prototypes.concentrations, own).item() / 2
        p, p_key = (objectives.batch_prototypes(x, own) for x in (q, k))
        align += objectives.alignment(p, p_key).item() / 2
    assert found["proto"].item() == pytest.approx(proto, rel=1e-5)
    assert found["align"].item() == pytest.approx(align, rel=1e-5)


def test_with_few_negatives_the_concentrations_stay_with_their_prototypes() -> None:
    """Two hit prototypes of four and no others: the loss over these two alone, each with its own concentration."""
    given, index = expectation(), torch.tensor([1, 4])  # both of prototype 1 in the finer clustering
    fine = Expectation(given.prototypes[1:], given.assignments[1:])
    q = unit(2, 12)
    found = prototype_terms(
        q, q, index, fine, Config(objective="protonce", negatives=1), torch.Generator().manual_seed(0)
    )
    chosen, target = objectives.choose_prototypes(OWN[1, index], 4, 1, torch.Generator().manual_seed(0))
    prototypes = fine.prototypes[0]
    expected = objectives.proto_nce(q, prototypes.centroids[chosen], prototypes.concentrations[chosen], target)
    assert len(chosen) == 2
    assert found["proto"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_pauc_weights_rise_from_zero_after_the_warm_up() -> None:
    config = Config(
        epochs=100, warmup=0.1, ramp=0.05, weight_align=0.4, weight_unif=0.2, weight_corr=0.3, weight_proto=0.0
    )
    assert term_weights(config, 10.0) == {"infonce": 1.0, "proto": 0.0, "align": 0.0, "unif": 0.0, "corr": 0.0}
    assert term_weights(config, 12.5)["align"] == pytest.approx(0.5 * 0.4)
    assert term_weights(config, 15.0) == term_weights(config, 99.0)
    assert term_weights(config, 15.0)["corr"] == pytest.approx(0.3)


def test_without_a_ramp_the_weights_are_there_at_once() -> None:
    assert term_weights(Config(epochs=10, ramp=0.0), 1.0)["unif"] == 0.15


def test_protonce_weighs_both_its_terms_with_one() -> None:
    assert term_weights(Config(objective="protonce"), 50.0) == {"infonce": 1.0, "proto": 1.0}


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine_to_zero() -> None:
    config = Config(lr=0.06, batch_size=512, lr_warmup=0.1)
    rates = [learning_rate(config, step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.12 / 100)
    assert rates[49] == pytest.approx(0.12 / 2)
    assert rates[99] == rates[100] == max(rates) == pytest.approx(0.12)
    assert rates[550] == pytest.approx(0.12 * (1 + cos(pi / 2)) / 2)
    assert rates[1000] == pytest.approx(0.0, abs=1e-12)


def test_without_a_rise_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(Config(lr_warmup=0.0), 0, 10) == Config().peak_lr
