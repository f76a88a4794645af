"""Networks whose numbers would show what exporters get wrong: biases far from 0, batch norms far
from 0 and 1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pauc_hub.answers.probe_file import ProbeFile, write_probe
from pauc_hub.clustering.prototype_set import Calibration, PrototypeSet, unnamed, write_prototypes
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.evaluation.design import Standardisation
from pauc_hub.evaluation.logistic import Linear
from pauc_hub.exporting.export import Exported, export
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.model import load
from pauc_hub.models.projector import Projector
from pauc_hub.models.write_folder import write_folder
from pauc_hub.origin import Origin

DIM = 16
SIDE = 64
# Unlike ImageNet's and unlike each other, so that a colour taken for another shows.
PREPROCESSING = Preprocessing(size=SIDE, crop_pct=0.9, mean=(0.2, 0.5, 0.7), std=(0.1, 0.3, 0.5))
CLASSES = ["ant", "bee", "cat"]


def disturb(network: torch.nn.Module) -> None:
    """Biases and batch norms' numbers anywhere but where they begin."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 3.0)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0.0, 0.5)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)


def write_model(path: Path, architecture: str, **model_args: Any) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network: Any = timm.create_model(
            architecture, pretrained=False, num_classes=0, **model_args
        )
        disturb(network)
        width = int(network.head_hidden_size)
        pool = getattr(network, "global_pool", None)
        projector = Projector(width, DIM)
        centroids = torch.nn.functional.normalize(torch.randn(5, DIM), dim=1)
    prototypes = Prototypes(centroids, torch.full((5,), 0.2), torch.arange(5), torch.ones(5))
    network_keys = {
        key: network.pretrained_cfg[key] for key in ("first_conv", "classifier", "fixed_input_size")
    }
    return write_folder(
        path,
        architecture=architecture,
        backbone=network.state_dict(),
        num_features=width,
        preprocessing=PREPROCESSING.to_config() | network_keys,
        pauc={"objective": "pauc", "dim": DIM, "clusters": [5], "resolution": SIDE},
        projector=projector.state_dict(),
        prototypes=[prototypes],
        facts={"name": f"harsh_{architecture}"},
        card="",
        half=False,
        model_args=model_args,
        global_pool=pool if isinstance(pool, str) else "avg",
    )


@dataclass(frozen=True)
class Harsh:
    """A model and what was made from its embeddings."""

    folder: Path
    prototypes: Path
    """Two nested granularities of 2 and 6, calibrated, in the backbone space."""
    probe: Path
    """Three classes."""
    photos: Path
    """15 pictures."""


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Harsh:
    """timm's smallest ResNet: bottlenecks, of which one convolution and the shortcut's read the
    same tensor.
    """
    place = tmp_path_factory.mktemp("export")
    # avg_down would put a pooling between. With the names that onnxscript 0.5.6 gave, put back by
    # hand, two biases collide here (pytorch#166797), and onnxruntime refuses the file.
    folder = write_model(place / "resnet", "test_resnet", avg_down=False)
    photos = place / "photos"
    photos.mkdir()
    for row in range(15):
        coarse = np.random.default_rng(row).integers(0, 256, (2 + row, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90 + row, 70), Image.Resampling.BICUBIC).save(
            photos / f"{row:02}.png"
        )
    model = load(folder, device="cpu", precision="fp32")
    rows = torch.from_numpy(model.embed(sorted(photos.iterdir())))
    origin = Origin(
        model.weights_sha256, "backbone", model.preprocessing.to_config(), model="harsh"
    )
    return Harsh(
        folder=folder,
        prototypes=_prototypes(place / "p.prototypes.safetensors", rows, origin),
        probe=_probe(place / "p.probe.safetensors", rows, origin),
        photos=photos,
    )


def _prototypes(path: Path, rows: torch.Tensor, origin: Origin) -> Path:
    unit = torch.nn.functional.normalize(rows, dim=1)
    levels = (_level(unit[:2]), _level(unit[2:8], parents=[1, 0, 0, 1, 1, 0]))
    calibration = Calibration((0.05, 0.05), (0.0, 0.0), torch.zeros(1), 0.05, 0.0, 20)
    write_prototypes(path, PrototypeSet(levels, origin, True, unnamed(levels), calibration))
    return path


def _level(centroids: torch.Tensor, parents: list[int] | None = None) -> Prototypes:
    k = len(centroids)
    above = None if parents is None else torch.tensor(parents)
    return Prototypes(
        centroids, torch.ones(k), torch.ones(k, dtype=torch.int64), torch.ones(k), above
    )


def _probe(path: Path, rows: torch.Tensor, origin: Origin) -> Path:
    standardisation = Standardisation(rows.mean(dim=0), rows.std(dim=0) + 0.01)
    weights = torch.randn(3, rows.shape[1], generator=torch.Generator().manual_seed(0)) / 4
    linear = Linear(weights, torch.tensor([0.2, -0.1, 0.3]), standardisation, temperature=1.7)
    write_probe(path, ProbeFile(linear, CLASSES, origin, {}))
    return path


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's smallest ViT, for 64 pixels; its layers have biases."""
    return write_model(
        tmp_path_factory.mktemp("export") / "vit", "test_vit", img_size=SIDE, depth=2
    )


@pytest.fixture(scope="session")
def fixed_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose positions are not interpolated."""
    return write_model(
        tmp_path_factory.mktemp("export") / "vit",
        "test_vit",
        img_size=SIDE,
        depth=1,
        dynamic_img_size=False,
    )


@pytest.fixture(scope="session")
def whole(resnet: Harsh, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A ResNet from bytes of any size to embedding, prototypes and class."""
    return export(
        resnet.folder,
        onnx=tmp_path_factory.mktemp("whole") / "whole.onnx",
        images=resnet.photos,
        uint8=True,
        prototypes=resnet.prototypes,
        probe=resnet.probe,
        dynamic_size=True,
    )
