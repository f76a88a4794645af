"""Seven families of networks learn for two epochs, resume exactly, and leave a folder that plain
timm loads.
"""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_swin
import torch
from PIL import Image

import pauc_hub
from pauc_hub.errors import Interrupted
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training import loop
from pauc_hub.training.recipes import settle
from pauc_hub.training.settings import from_mapping
from pauc_hub.training.state import take_step

assert timm.is_model("test_swin"), tiny_swin.__doc__
SIZE, BATCH, CPU = 32, 8, torch.device("cpu")
FAMILIES = (
    "test_resnet",
    "test_convnext",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "test_vit",
    "test_swin",
    "test_byobnet",
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(20):
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE)).save(folder / f"{i:02}.png")
    return folder


def settings(architecture: str) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "size": SIZE,
        "epochs": 2,
        "batch_size": BATCH,
        "clusters": [2],
        "kmeans": "torch",
        "precision": "fp32",
    }


def weights(model: Path) -> dict[str, torch.Tensor]:
    return timm.create_model(f"local-dir:{model}", pretrained=True).state_dict()


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_learns_resumes_exactly_and_is_loaded_by_plain_timm(
    architecture: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = settle(open_by_index(images, quiet=True), CPU, settings(architecture))
    whole = loop.train(images, tmp_path / "whole", config, quiet=True)
    steps = 0

    def interrupted(state: Any, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            # in the second epoch, with prototypes
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(state, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", interrupted)
        with pytest.raises(Interrupted):
            loop.train(images, tmp_path / "stopped", config, quiet=True)
    resumed = loop.train(images, tmp_path / "stopped", resume=True, quiet=True)
    first, second = weights(whole), weights(resumed)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []

    backbone = timm.create_model(f"local-dir:{whole}", pretrained=True).eval()
    model = pauc_hub.load(whole, device="cpu", precision="fp32")
    pixels = torch.from_numpy(np.array(Image.open(images / "00.png"))).unsqueeze(0)
    with torch.no_grad():
        expected = backbone(model.preprocessing.normalise(pixels))
    assert expected.shape == (1, model.width)
    assert torch.allclose(model.encode(pixels), expected, atol=1e-5)


def test_networks_without_batch_norm_default_to_adamw(images: Path) -> None:
    source = open_by_index(images, quiet=True)
    config, choices = settle(source, CPU, settings("test_vit"))
    assert (config.optimiser, config.lr, config.weight_decay) == ("adamw", 5e-4, 0.1)
    assert [choice.name for choice in choices] == ["optimiser", "weight_decay", "queue", "lr"]
    config, _ = settle(source, CPU, settings("test_vit") | {"optimiser": "sgd", "lr": 0.1})
    assert (config.optimiser, config.lr, config.weight_decay) == ("sgd", 0.1, 5e-4)
    config, _ = settle(source, CPU, settings("test_vit"), "imagenet1k")
    assert (config.optimiser, config.lr, config.weight_decay) == ("adamw", 5e-4, 0.1)
    config, _ = settle(source, CPU, settings("test_efficientnet"))
    assert (config.optimiser, config.lr) == ("sgd", 0.06)


def test_batch_norm_groups_bind_no_other_network() -> None:
    given = {"size": 64, "batch_size": 40, "accumulate": 40, "queue": 40, "clusters": [2]}
    assert from_mapping(given | {"architecture": "test_vit"}, "").problems(1000) == []
    assert from_mapping(given | {"architecture": "test_resnet"}, "").problems(1000) != []
    assert from_mapping(given | {"architecture": "test_vit", "accumulate": 41}, "").problems(
        1000
    ) == ["accumulate=41 must be 1 to 40, batch_size"]
