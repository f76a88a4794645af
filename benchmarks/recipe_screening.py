"""Which settings make a short run learn most? Trains each row on most of a training split and asks
the rest.

    python benchmarks/recipe_screening.py cifar10-train.parquet -o work --images 14222 --epochs 2
    python benchmarks/recipe_screening.py cifar10-train.parquet -o work --rows base,adamw --seeds 3

The last tenth of the rows asks, the rest are trained on and vote: weighted kNN (k = 200, T = 0.1,
cosine, backbone); no test split is touched. InfoNCE alone, ResNet-18 with its stock stem at 32
pixels, batch 256. Every row makes the same number of steps; what one costs stands beside it.
Results are written as they come, and finished runs are not repeated.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import feature_scores
from labelled_splits import read_rows
from measuring import machine, result_path
from query_or_momentum import BANK, QUERIES, divide
from results_file import Results

import pauc_hub
from pauc_hub.device import keep_freed_memory
from pauc_hub.errors import PaucError
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.loop import train
from pauc_hub.training.settings import from_mapping

QUESTION = "Which settings make a short run learn most?"
COMMON: dict[str, Any] = {
    "objective": "infonce",
    "architecture": "resnet18",
    "size": 32,
    "batch_size": 256,
    # more past keys than a short run makes would be random directions to its end
    "queue": 1024,
    "momentum": 0.99,
    "temperature": 0.2,
    "optimiser": "sgd",
    "lr": 0.06,
    "lr_warmup": 0.02,
}
ADAMW: dict[str, Any] = {"optimiser": "adamw", "lr": 0.001}


class Row(NamedTuple):
    """What is changed of the common settings, in words and as settings."""

    about: str
    settings: Mapping[str, Any]


ROWS = {
    "base": Row("SGD, the learning rate rises over 2 % of the steps", {}),
    "warmup_10": Row("the learning rate rises over 10 % of the steps", {"lr_warmup": 0.1}),
    "warmup_30": Row("the learning rate rises over 30 % of the steps", {"lr_warmup": 0.3}),
    "lr_third": Row("a third of the learning rate", {"lr": 0.02, "lr_warmup": 0.1}),
    "adamw": Row("AdamW", ADAMW | {"lr_warmup": 0.1}),
    "adamw_as_base": Row("AdamW, the learning rate rises over 2 %", ADAMW),
    "adamw_third": Row(
        "AdamW, a third of the learning rate", ADAMW | {"lr": 0.0003, "lr_warmup": 0.1}
    ),
    "adamw_threefold": Row(
        "AdamW, three times the learning rate", ADAMW | {"lr": 0.003, "lr_warmup": 0.1}
    ),
    "adamw_momentum": Row(
        "AdamW, momentum encoder at 0.9", ADAMW | {"lr_warmup": 0.1, "momentum": 0.9}
    ),
    "adamw_temperature": Row(
        "AdamW, temperature 0.1", ADAMW | {"lr_warmup": 0.1, "temperature": 0.1}
    ),
    "adamw_symmetric": Row("AdamW, symmetric loss", ADAMW | {"lr_warmup": 0.1, "symmetric": True}),
}


def config_of(row: str, seed: int, epochs: int, images: int) -> Config:
    """A row's settings, checked for so many images."""
    given = COMMON | dict(ROWS[row].settings) | {"epochs": epochs, "seed": seed}
    return from_mapping(given, f"row {row}").resolve(images)


def measure(row: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the row and ask its model; shares in %."""
    place = arguments.output
    source, folder = open_by_index(place / BANK, quiet=True), place / f"{row}-seed{seed}"
    config = config_of(row, seed, arguments.epochs, len(source))
    command = " ".join(sys.argv)
    model = pauc_hub.load(
        train(source, folder, config, device="cpu", overwrite=True, command=command, quiet=True)
    )
    bank, queries = (read_rows([place / name]) for name in (BANK, QUERIES))
    rows, asked = (
        feature_scores.embed(model, split, f"{row}, features") for split in (bank, queries)
    )
    right = feature_scores.knn_right(rows, bank.labels, asked, queries.labels)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    *_, last = (line for line in map(json.loads, lines) if "images_per_second" in line)
    shutil.rmtree(folder)
    return {
        "about": ROWS[row].about,
        "settings": dict(ROWS[row].settings),
        "seed": seed,
        "knn": 100 * float(right.mean()),
        "infonce": last["infonce"],
        "images_per_second": last["images_per_second"],
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("split", type=Path, help="Parquet file with columns image and label")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the divided images and the runs",
    )
    parser.add_argument(
        "--images", type=int, help="images to use, the first ones; all unless given"
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--rows",
        type=lambda text: text.split(","),
        default=list(ROWS),
        help="names, commas between",
    )
    parser.add_argument("--result", type=Path, help="the result's file")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.rows) - set(ROWS)):
        parser.error(f"no row is named {', '.join(unknown)}; there are {', '.join(ROWS)}")
    keep_freed_memory()
    divide(arguments.split, arguments.output, arguments.images)
    images = len(open_by_index(arguments.output / BANK, quiet=True))
    shared = {"images": images, "epochs": arguments.epochs, "settings": COMMON}
    results = Results(arguments.result or result_path("recipe-screening"), QUESTION, shared)
    for seed in range(arguments.seeds):
        for row in arguments.rows:
            key = f"{row}-seed{seed}"
            if key in results:
                continue
            try:
                found = measure(row, seed, arguments)
            except PaucError as error:
                raise SystemExit(f"error: {error}") from error
            results.add(key, found)
            print(f"{key}: kNN {found['knn']:.2f}, InfoNCE {found['infonce']:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
