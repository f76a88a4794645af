"""A tiny training by `pauc train` in a working directory: photos/, tiny.toml and run/."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SETTINGS = """\
size = 32
batch_size = 16
queue = 32
dim = 16
clusters = [2, 4]
crop_min = 0.5
precision = "fp32"
kmeans = "torch"
"""
OPTIONS = ("--config", "tiny.toml", "--device", "cpu", "--workers", "1")
TRAIN = ("train", "photos", "-o", "run", *OPTIONS)
FILES = ["checkpoints", "config.json", "curves.png", "metrics.jsonl", "model", "tensorboard"]


def write_photos(root: Path, count: int = 60) -> None:
    """Coarse noise of 32 x 32 pixels."""
    root.mkdir()
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(root / f"{i:02}.png")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "model" / "facts.json").read_text())
    return found
