"""A real EM run: textures of hidden classes under strong tints, which an untrained network groups
by tint.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import pauc_hub
from pauc_hub.evaluation.metrics import nmi
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.estep import all_features, expect
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.loop import train
from pauc_hub.training.state import new_training

IMAGES, CLASSES, SIDE = 360, 6, 48
CONFIG = Config(
    architecture="test_resnet",  # timm's smallest
    size=32,
    epochs=14,
    symmetric=True,
    batch_size=72,
    norm_group=36,
    lr=0.07,
    momentum=0.9,  # the run has 100 steps
    queue=180,
    clusters=(CLASSES, 3 * CLASSES),
    temperature=0.1,
    crop_min=0.4,
    jitter=(0.8, 0.8, 0.8, 0.5),  # tints are made worthless
    jitter_probability=1.0,
    grey=0.4,
    blur=0.0,
    kmeans="torch",
    kmeans_restarts=5,
    precision="fp32",
)


def texture(kind: int, draws: np.random.Generator) -> Image.Image:
    """Stripes (lying, standing, slanting), squares, rings or dots of random place and pitch, tinted
    at random.
    """
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    (x0, y0), wave = draws.uniform(0, SIDE, 2), 2 * np.pi / draws.uniform(6.5, 8)
    pattern: npt.NDArray[np.float64] = np.sign(
        [
            np.sin(wave * (y + y0)),
            np.sin(wave * (x + x0)),
            np.sin(0.7 * wave * (x + y + x0)),
            np.sin(0.8 * wave * (x + x0)) * np.sin(0.8 * wave * (y + y0)),
            np.sin(wave * np.hypot(x - x0, y - y0)),
            np.sin(wave * (x + x0)) * np.sin(wave * (y + y0)) - 0.3,
        ][kind]
    )
    ramp = draws.uniform(-15, 15, (2, 3)).T @ np.stack([x / SIDE - 0.5, y / SIDE - 0.5]).reshape(
        2, -1
    )
    tint = draws.uniform(60, 195, 3) + ramp.T.reshape(SIDE, SIDE, 3)
    noise = draws.normal(0, 4, (SIDE, SIDE, 1))
    pixels = tint + draws.uniform(25, 45) * pattern[..., None] + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def textures(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """The folder, whose names say nothing, and the hidden class of each image in the order of the
    names.
    """
    draws, folder = np.random.default_rng(0), tmp_path / "textures"
    folder.mkdir()
    labels = draws.integers(CLASSES, size=IMAGES)
    for i, label in enumerate(labels):
        texture(int(label), draws).save(folder / f"{i:03}.png")
    return folder, torch.from_numpy(labels)


def untrained_agreement(images: Path, labels: torch.Tensor, run: Path) -> float:
    """NMI of the hidden classes with an E-step on the network that the training starts from."""
    config, source = CONFIG.resolve(IMAGES), open_by_index(images)
    state = new_training(run, config, source, torch.device("cpu"), 2, StopRequest(), quiet=True)
    features, readable = all_features(
        state.pair.key, state.loader, state.device, state.dtype, 120, lambda _: None
    )
    return nmi(expect(features, readable, config, 0).assignments[0], labels)


def test_prototypes_find_hidden_classes_that_an_untrained_network_does_not(
    textures: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    images, labels = textures
    before = untrained_agreement(images, labels, tmp_path / "untrained")
    model = pauc_hub.load(train(images, tmp_path / "run", CONFIG, quiet=True), precision="fp32")
    embeddings = torch.from_numpy(model.embed(sorted(images.iterdir()), space="projection"))
    nearest = (embeddings @ model.prototypes[0].centroids.T).argmax(dim=1)
    assert before < 0.1
    assert nmi(nearest, labels) > before + 0.2
