"""A model folder with a few numbers in each of its files."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.models.write_folder import write_folder

PREPROCESSING = {
    "input_size": [3, 32, 32],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}
FILES = {
    "config.json",
    "model.safetensors",
    "projector.safetensors",
    "prototypes.safetensors",
    "facts.json",
    "README.md",
    "SHA256SUMS",
    "modules.json",
    "sentence_bert_config.json",
}


def backbone() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "conv1.weight": torch.randn(4, 3, 7, 7).to(memory_format=torch.channels_last),
        "bn1.running_var": torch.rand(4),
        "bn1.num_batches_tracked": torch.tensor(70_000),  # beyond what 16 bits hold
    }


def clusterings() -> list[Prototypes]:
    torch.manual_seed(2)
    coarse = Prototypes(
        centroids=F.normalize(torch.randn(2, 5), dim=1),
        concentrations=torch.tensor([0.2, 0.3]),
        sizes=torch.tensor([70_001, 5]),
        radius=torch.tensor([0.5, 0.25]),
    )
    fine = Prototypes(
        centroids=F.normalize(torch.randn(3, 5), dim=1),
        concentrations=torch.tensor([0.1, 0.2, 0.3]),
        sizes=torch.tensor([4, 70_001, 1]),
        radius=torch.tensor([0.5, 0.75, 0.0]),
        parents=torch.tensor([1, 0, 1]),
    )
    return [coarse, fine]


def write(path: Path, **changed: Any) -> Path:
    arguments: dict[str, Any] = {
        "architecture": "resnet18",
        "backbone": backbone(),
        "num_features": 4,
        "preprocessing": PREPROCESSING,
        "pauc": {"objective": "pauc", "dim": 5, "clusters": [2, 3], "resolution": 32},
        "projector": {"hidden.weight": torch.eye(4)},
        "prototypes": clusterings(),
        "facts": {"name": "Zürich", "seconds": 1.5},
        "card": "# Zürich\n",
        "half": False,
    }
    return write_folder(path, **(arguments | changed))
