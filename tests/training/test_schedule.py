"""What changes over a run: weights of the terms, learning rate, momentum."""

from math import cos, pi

import pytest

from pauc_hub.training.config import Config
from pauc_hub.training.schedule import key_momentum, laid_anew, learning_rate, term_weights


def test_pauc_weights_rise_from_zero_after_the_warm_up() -> None:
    config = Config(
        epochs=100,
        warmup=0.1,
        ramp=0.05,
        weight_align=0.4,
        weight_unif=0.2,
        weight_corr=0.3,
        weight_proto=0.0,
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


def test_the_momentum_is_constant_from_the_first_step_unless_it_is_to_rise() -> None:
    assert {key_momentum(Config(momentum=0.996), done, 100) for done in (0, 50, 99)} == {0.996}


def test_the_momentum_rises_along_a_cosine_to_one() -> None:
    config = Config(momentum=0.9, momentum_rises=True)
    found = [key_momentum(config, done, 100) for done in range(101)]
    assert found[0] == pytest.approx(0.9)
    assert found[25] == pytest.approx(1 - 0.1 * (1 + cos(pi / 4)) / 2)
    assert found[50] == pytest.approx(0.95)
    assert found[100] == 1.0
    assert found == sorted(found)


def test_a_schedule_laid_anew_is_a_cosine_over_the_new_length_from_the_present_step_on() -> None:
    config = Config(epochs=100, lr=0.06, batch_size=256, lr_warmup=0.02, momentum_rises=True)
    laid = laid_anew(config, 300)
    assert learning_rate(config, 1000, 1000) == pytest.approx(0.0, abs=1e-12)
    present = learning_rate(laid, 1000, 3000)  # of 2980 steps after the rise, 980 are done
    assert present == pytest.approx(0.06 * (1 + cos(pi * 980 / 2980)) / 2)
    assert learning_rate(laid, 3000, 3000) == pytest.approx(0.0, abs=1e-12)
    assert key_momentum(laid, 1500, 3000) == pytest.approx(1 - (1 - 0.99) / 2)


@pytest.mark.parametrize("epochs", [30, 61, 300])
def test_what_begins_a_run_keeps_its_length_when_the_schedule_is_laid_anew(epochs: int) -> None:
    config = Config(epochs=60, warmup=0.1, ramp=0.05, lr_warmup=0.02, clusters=(2,))
    laid = laid_anew(config, epochs)
    assert (laid.epochs, laid.warmup_epochs) == (epochs, 6)
    for epoch in (5.0, 6.0, 7.5, 9.0, 20.0):
        assert term_weights(laid, epoch) == pytest.approx(term_weights(config, epoch))
    first = [learning_rate(config, step, 600) for step in range(12)]
    assert [learning_rate(laid, step, 10 * epochs) for step in range(12)] == pytest.approx(first)
    assert laid_anew(laid, 60).warmup_epochs == 6
    assert laid.problems(100_000) == []


def test_a_schedule_shorter_than_the_warm_up_is_all_warm_up() -> None:
    assert laid_anew(Config(epochs=100, warmup=0.5), 10).warmup == 1.0
