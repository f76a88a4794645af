"""What changes over a run: weights of the terms, learning rate, momentum."""

from math import cos, pi

import pytest

from pauc_hub.training.config import Config
from pauc_hub.training.schedule import key_momentum, learning_rate, term_weights


def test_pauc_weights_rise_from_zero_after_the_warm_up() -> None:
    config = Config(
        epochs=100, warmup=0.1, ramp=0.05, weight_align=0.4, weight_unif=0.2, weight_corr=0.3, weight_proto=0.0
    )
    assert term_weights(config, 10.0) == {
        "infonce": 1.0,
        "proto": 0.0,
        "align": 0.0,
        "unif": 0.0,
        "corr": 0.0,
        "scatter": 0.0,
    }
    assert term_weights(config, 12.5)["align"] == pytest.approx(0.5 * 0.4)
    assert term_weights(config, 15.0) == term_weights(config, 99.0)
    assert term_weights(config, 15.0)["corr"] == pytest.approx(0.3)


def test_the_weight_of_scattering_rises_with_the_others() -> None:
    config = Config(epochs=100, warmup=0.1, ramp=0.05, weight_scatter=0.4)
    assert term_weights(config, 12.5)["scatter"] == pytest.approx(0.2)


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


def test_the_momentum_is_constant_unless_it_is_to_rise() -> None:
    assert {key_momentum(Config(momentum=0.9), done, 1000) for done in (80, 500, 999)} == {0.9}


def test_in_the_first_steps_the_momentum_is_lower() -> None:
    found = [key_momentum(Config(momentum=0.9), done, 1000) for done in range(81)]
    assert found[:3] == [1 / 10, 2 / 11, 3 / 12]
    assert found[79] == 80 / 89
    assert found[80] == 0.9
    assert key_momentum(Config(momentum=0.05), 0, 1000) == 0.05


def test_the_momentum_rises_along_a_cosine_to_one() -> None:
    config = Config(momentum=0.5, momentum_rises=True)
    found = [key_momentum(config, done, 100) for done in range(101)]
    assert found[0] == pytest.approx(0.1)
    assert found[4] == pytest.approx(1 - (1 - 5 / 14) * (1 + cos(pi / 25)) / 2)
    assert found[25] == pytest.approx(1 - 0.5 * (1 + cos(pi / 4)) / 2)
    assert found[50] == pytest.approx(0.75)
    assert found[100] == 1.0
    assert found == sorted(found)
