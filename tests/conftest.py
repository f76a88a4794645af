"""Shared by all tests: small model folders with random weights, and folders of generated pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.folder import Prototypes, write_folder
from pauc_hub.preprocess import Preprocessing
from pauc_hub.projector import Projector

ARCHITECTURE = "test_resnet"  # timm's smallest, 0.4 million parameters
WIDTH, DIM = 96, 16

WriteModel = Callable[..., Path]
Picture = Callable[[int, int], Image.Image]


def write_model(path: Path, *, head: bool = True, preprocessing: Preprocessing | None = None) -> Path:
    """A model folder whose weights are drawn from a fixed seed; its batch norms have seen something."""
    import timm  # takes seconds, and most tests need no model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
        for _ in range(5):
            backbone(torch.randn(4, 3, 64, 64))
        projector = Projector(WIDTH, DIM).state_dict()
        centroids = torch.nn.functional.normalize(torch.randn(4, DIM), dim=1)
    prototypes = Prototypes(centroids, torch.full((4,), 0.2), torch.arange(4), torch.ones(4))
    return write_folder(
        path,
        architecture=ARCHITECTURE,
        backbone=backbone.state_dict(),
        num_features=WIDTH,
        preprocessing=(preprocessing or Preprocessing(size=64, crop_pct=0.9)).to_config(),
        pauc={"objective": "pauc", "dim": DIM, "clusters": [4], "resolution": 64},
        projector=projector if head else None,
        prototypes=[prototypes] if head else [],
        facts={"name": "tiny"},
        card="",
        half=False,
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder named `tiny` with head and prototypes: 96 numbers from 64 px, 16 in projection space."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def headless_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a backbone alone."""
    return write_model(tmp_path_factory.mktemp("models") / "headless", head=False)


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Makes smooth coloured pictures, a different one for each size."""

    def make(width: int, height: int) -> Image.Image:
        coarse = np.random.default_rng([width, height]).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make


class MeanColour:
    """An encoder whose embedding of an image is its mean colour; counts the images of each batch it is given."""

    name, weights_sha256, precision = "mean", "00", "fp32"
    preprocessing = Preprocessing(size=8, crop_pct=1.0)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def width_in(self, space: str) -> int:
        return 3

    def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
        self.batches.append(len(batch))
        return batch.float().mean(dim=(1, 2))


@pytest.fixture
def mean_colour() -> type[MeanColour]:
    return MeanColour
