"""A tiny training: how to stop it, how to break it, and whether two runs of it are the same."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pauc_hub.models.folder import open_folder
from pauc_hub.training import loop, state
from pauc_hub.training.config import Config
from pauc_hub.training.run import run_folder

CONFIG = Config(
    architecture="test_resnet",
    size=32,
    epochs=3,
    batch_size=10,
    queue=25,
    clusters=(2, 4),
    weight_proto=0.1,
    negatives=2,  # so that prototypes are drawn
    symmetric=True,
    kmeans="torch",
    precision="fp32",
)
STEPS = 4  # an epoch
CLOCKS = (
    "images_per_second",
    "data_wait",
    "mstep_seconds",
    "estep_seconds",
    "estep_share",
    "memory_gib",
)


def losses(run: Path) -> list[dict[str, Any]]:
    lines = (run / run_folder.METRICS).read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in CLOCKS}
        for line in lines
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = open_folder(run / run_folder.MODEL)
    prototypes = {f"p{m}": each.centroids for m, each in enumerate(folder.read_prototypes())}
    return folder.read_backbone() | (folder.read_projector() or {}) | prototypes


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def after_call(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, and SIGTERM to this process in its count-th call."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **named)

    return counted


def crash_in_step(count: int, monkeypatch: pytest.MonkeyPatch, images: Path, run: Path) -> None:
    calls = 0

    def crash(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise MemoryError
        return state.take_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", crash)
        with pytest.raises(MemoryError):
            loop.train(images, run, CONFIG, quiet=True)
