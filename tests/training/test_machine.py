"""Where a run takes place: what it can be trained on."""

import pytest
import torch

from pauc_hub.errors import UsageError
from pauc_hub.training import machine


def test_the_cpu_can_be_trained_on() -> None:
    assert machine.device_to_train_on("cpu") == torch.device("cpu")


def test_devices_without_float64_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "choose_device", torch.device)
    with pytest.raises(UsageError, match=r"^device='mps': training runs on cpu and cuda alone\."):
        machine.device_to_train_on("mps")


def test_what_is_not_there_is_refused_as_elsewhere() -> None:
    with pytest.raises(UsageError, match="device=cuda:99 cannot be used here"):
        machine.device_to_train_on("cuda:99")
