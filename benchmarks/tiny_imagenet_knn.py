"""How much better than chance, and than a random network, are a backbone's features? kNN on Tiny ImageNet.

    python benchmarks/tiny_imagenet_knn.py tiny-imagenet-200 -m pauc_resnet18

The folder is Tiny ImageNet as it is distributed: train/<class>/images/*.JPEG, val/images/*.JPEG and
val/val_annotations.txt. Bank: the training split; queries: the validation split (method.md §7). Nothing is tuned on it.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

import pauc_hub
from pauc_hub.device import keep_freed_memory
from pauc_hub.evaluation.knn import knn_predict
from pauc_hub.progress import progress_bar
from pauc_hub.training.run import receipts

K, TEMPERATURE, SEED = 200, 0.1, 0
PART = 2048  # images between two updates of the bar


def labelled_images(folder: Path) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """(training split, validation split), each a list of (path, index of the class among the sorted WordNet ids)."""
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    train = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / "train" / name).rglob("*.JPEG"))]
    annotations = (folder / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    fields = [line.split("\t") for line in annotations]
    return train, [(folder / "val" / "images" / name, classes.index(wnid)) for name, wnid, *_ in fields]


def features(model: pauc_hub.Model, images: Sequence[tuple[Path, int]], what: str) -> tuple[Tensor, Tensor]:
    """(N, D) backbone features and (N,) labels."""
    found = []
    with progress_bar(len(images), what) as bar:
        for start in range(0, len(images), PART):
            part = images[start : start + PART]
            found.append(torch.from_numpy(model.embed([path for path, _ in part], batch_size=256)))
            bar.advance(len(part))
    return torch.cat(found), torch.tensor([label for _, label in images])


def top1(model: pauc_hub.Model, folder: Path, what: str) -> float:
    """Share of the validation split that is classified right, in %."""
    train, validation = labelled_images(folder)
    bank, labels = features(model, train, f"{what}: training split")
    queries, truth = features(model, validation, f"{what}: validation split")
    predicted = knn_predict(bank, labels, queries, k=K, temperature=TEMPERATURE)
    return round(100 * (predicted == truth).double().mean().item(), 2)


def untrained(model: pauc_hub.Model) -> pauc_hub.Model:
    """The same network as it is before training, weights drawn from SEED."""
    torch.manual_seed(SEED)
    network = timm.create_model(model.folder.architecture, num_classes=0).eval()
    return dataclasses.replace(model, network=network.to(model.device).to(memory_format=torch.channels_last))


def measure(folder: Path, name: str) -> dict[str, Any]:
    """The score as facts.json has it, with the machine beside it."""
    model = pauc_hub.load(name)
    train, validation = labelled_images(folder)
    score = {
        "protocol": f"weighted kNN, k = {K}, T = {TEMPERATURE}, cosine",
        "metric": "top-1 %",
        "space": "backbone",
        "resolution": model.preprocessing.size,
        "bank": f"Tiny ImageNet train, {len(train):,}",
        "queries": f"Tiny ImageNet val, {len(validation):,}",
        "value": top1(model, folder, model.name),
        "random": top1(untrained(model), folder, "random network"),
        "seed": SEED,
        "command": "python benchmarks/tiny_imagenet_knn.py tiny-imagenet-200 -m pauc_resnet18",
    }
    return {
        "score": score,
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "precision": model.precision,
        "hardware": receipts.hardware(model.device),
        "versions": receipts.versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-m", "--model", default="pauc_resnet18")
    parser.add_argument("-o", "--output", type=Path, help="where to write the result as JSON, besides printing it")
    arguments = parser.parse_args()
    keep_freed_memory()
    text = json.dumps(measure(arguments.folder, arguments.model), indent=2) + "\n"
    print(text, end="")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
