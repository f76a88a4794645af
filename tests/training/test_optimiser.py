"""The optimisers: one step of each by hand, what norms and biases are spared, and fused steps
beside plain ones.
"""

import pytest
import torch
from torch import nn

from pauc_hub.training.config import Config
from pauc_hub.training.config_limits import OPTIMISERS
from pauc_hub.training.optimiser import new_optimiser


def one_step(**settings: object) -> tuple[nn.Linear, nn.Linear]:
    """A layer before and after a step at a rate of 0.01; its gradient is 1 everywhere."""
    torch.manual_seed(0)
    before, after = nn.Linear(3, 2), nn.Linear(3, 2)
    after.load_state_dict(before.state_dict())
    optimiser = new_optimiser(after, Config(batch_size=256, lr=0.01, **settings))  # type: ignore[arg-type]
    torch.autograd.backward(after.weight.sum() + after.bias.sum())
    optimiser.step()
    return before, after


def test_sgd_decays_the_weights_and_not_the_biases() -> None:
    before, after = one_step(optimiser="sgd", weight_decay=0.5)
    torch.testing.assert_close(after.weight, before.weight - 0.01 * (1 + 0.5 * before.weight))
    torch.testing.assert_close(after.bias, before.bias - 0.01)


def test_adamw_decays_the_weights_apart_from_the_gradient() -> None:
    before, after = one_step(optimiser="adamw", weight_decay=0.5)
    # the first step is lr long
    torch.testing.assert_close(after.weight, before.weight * (1 - 0.01 * 0.5) - 0.01)
    torch.testing.assert_close(after.bias, before.bias - 0.01)


@pytest.mark.parametrize("weight_decay", [0.5, 0.0])
def test_lars_steps_in_proportion_to_the_weights_and_spares_the_biases(weight_decay: float) -> None:
    before, after = one_step(optimiser="lars", weight_decay=weight_decay)
    trust = 0.001 * before.weight.norm() / (6**0.5 + weight_decay * before.weight.norm())
    torch.testing.assert_close(
        after.weight, before.weight - 0.01 * trust * (1 + weight_decay * before.weight)
    )
    torch.testing.assert_close(after.bias, before.bias - 0.01)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_parameter_is_learnt_once(optimiser: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    groups = new_optimiser(module, Config(optimiser=optimiser, lr=0.01)).param_groups
    assert [len(group["params"]) for group in groups] == [2, 4]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    assert {p for group in groups for p in group["params"]} == set(module.parameters())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_fused_step_is_a_plain_one(optimiser: str) -> None:
    def trained(*, fused: bool) -> nn.Conv2d:
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        found = new_optimiser(layer, Config(optimiser=optimiser, lr=0.01, weight_decay=0.1))
        assert found.defaults["fused"]
        for group in found.param_groups:
            group["fused"] = fused
        for step in range(5):
            found.zero_grad()
            x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            torch.autograd.backward(layer(x.to(memory_format=torch.channels_last)).square().sum())
            found.step()
        return layer

    fused, plain = trained(fused=True), trained(fused=False)
    torch.testing.assert_close(fused.weight, plain.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fused.bias, plain.bias, rtol=1e-4, atol=1e-6)
