"""Numbers that are no longer finite, wherever they arise: no checkpoint has them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pauc_hub.errors import TrainingFailed
from pauc_hub.sources.by_index import from_entries
from pauc_hub.sources.folders import ImageFile
from pauc_hub.training.config import Config
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.run import checkpoint_files
from pauc_hub.training.state import Training, new_training

Numbers = Callable[[Training], Tensor]


@pytest.fixture
def saved(tmp_path: Path) -> Training:
    """A run of which a checkpoint was saved after one step."""
    config = Config(
        architecture="test_resnet",
        size=32,
        batch_size=64,
        queue=128,
        dim=8,
        clusters=(3, 6),
        optimiser="adamw",
        lr=0.001,
        precision="fp32",
    )
    # never read
    source = from_entries("photos", [ImageFile(str(i), f"/nowhere/{i}") for i in range(64)])
    state = new_training(
        tmp_path, config, source, torch.device("cpu"), 1, StopRequest(), quiet=True
    )
    for parameter in state.pair.query.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimiser.step()
    state.step = 1
    state.save()
    state.step = 2
    return state


def of_a_weight(state: Training) -> Tensor:
    return next(state.pair.query.parameters()).data


def of_the_queue(state: Training) -> Tensor:
    return state.pair.queue.rows


def of_the_statistics(state: Training) -> Tensor:
    return next(
        buffer for name, buffer in state.pair.query.named_buffers() if name.endswith("running_var")
    )


def of_the_optimiser(state: Training) -> Tensor:
    found: Tensor = next(iter(state.optimiser.state.values()))["exp_avg"]
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "numbers", [of_a_weight, of_the_queue, of_the_statistics, of_the_optimiser]
)
def test_a_number_that_is_not_finite_never_enters_a_checkpoint(
    saved: Training, numbers: Numbers, value: float
) -> None:
    before = checkpoint_files.standing(saved.run)
    assert len(before) == 1
    last = numbers(saved)
    last[(-1,) * last.ndim] = value
    with pytest.raises(
        TrainingFailed,
        match=r"no longer finite at step 2 of epoch 1: training diverged.*lower lr",
    ):
        saved.save()
    assert checkpoint_files.standing(saved.run) == before


def test_what_is_finite_is_saved(saved: Training) -> None:
    saved.save()
    assert len(checkpoint_files.standing(saved.run)) == 2
