"""kNN on a labelled folder, while training: it watches, and nothing is ever chosen by it. D width of the backbone."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from pauc_hub.device import autocast
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.knn import knn_predict
from pauc_hub.images.decoding import ImageFile, readable, walk
from pauc_hub.progress import progress_bar
from pauc_hub.training.data import ImageSource
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.state import Training

K = 200  # neighbours that vote, or as many as there are (method.md §7)
LARGEST_BANK, MOST_QUERIES = 50_000, 10_000  # CIFAR-10's splits, which so stay whole
FIFTH = 5  # of a folder without splits, every fifth image of a class is a query
IMAGES_AN_EPOCH = 0.25  # of the training images: a forward pass over these is about a twentieth of an epoch's work
TRIED = 32  # images that are opened before training starts

Classes = dict[str, list[Path]]  # images by class, in the order of their names


@dataclass(frozen=True)
class Split:
    """Images and the class of each, (N,) int64."""

    source: ImageSource
    labels: Tensor


@dataclass(frozen=True)
class Labelled:
    """Images with classes: those of `bank` vote on those of `queries`."""

    bank: Split
    queries: Split

    def is_due(self, epoch: int, epochs: int, images: int) -> bool:
        """Whether to look after epoch `epoch` (from 1): so often that it costs little, and after the last one.

        Args:
            images: that are trained on.
        """
        every = ceil((len(self.bank.labels) + len(self.queries.labels)) / (IMAGES_AN_EPOCH * images))
        return epoch % every == 0 or epoch == epochs


def open_labelled(folder: Path) -> Labelled:
    """One subfolder a class; or such folders `train` and `val` (or `test`), of which the first is the bank.

    Without the two, every fifth image of a class, in the order of names, is a query. Larger sets are thinned evenly.

    Raises:
        UsageError: there is nothing there that kNN could be measured on.
    """
    if not folder.is_dir():
        raise UsageError(f"labelled '{folder}' is no folder. Give one with a subfolder a class, or leave it out.")
    held_out = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and held_out is not None:
        bank, queries = _classes(folder / "train", least=2), _classes(held_out, least=1)
        _refuse_strange(bank, queries, held_out)
    else:
        bank, queries = _every_fifth(_classes(folder, least=2), folder)
    numbers = {name: number for number, name in enumerate(bank)}
    return Labelled(_split(folder, bank, numbers, LARGEST_BANK), _split(folder, queries, numbers, MOST_QUERIES))


def _classes(folder: Path, least: int) -> Classes:
    """By the names of the subfolders; those without images are none."""
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: [image.path for image in walk(path)] for path in subfolders}
    classes = {name: images for name, images in found.items() if images}
    if len(classes) < least:
        there = f"only '{next(iter(classes))}'" if classes else "none"
        raise UsageError(
            f"labelled '{folder}' needs {least} or more subfolders with images, one for each class; it has {there}."
        )
    return classes


def _refuse_strange(bank: Classes, queries: Classes, folder: Path) -> None:
    strange = [name for name in queries if name not in bank]
    if strange:
        raise UsageError(
            f"labelled '{folder}' holds '{strange[0]}', which is no class of 'train' beside it. "
            "Sort its images into subfolders named as those of 'train'."
        )


def _every_fifth(classes: Classes, folder: Path) -> tuple[Classes, Classes]:
    queries = {name: images[FIFTH - 1 :: FIFTH] for name, images in classes.items()}
    if not any(queries.values()):
        raise UsageError(f"labelled '{folder}' needs {FIFTH} images of a class, one of which is asked about.")
    asked = {path for images in queries.values() for path in images}
    return {name: [path for path in images if path not in asked] for name, images in classes.items()}, queries


def _split(folder: Path, classes: Classes, numbers: dict[str, int], most: int) -> Split:
    rows = [(path, numbers[name]) for name, images in classes.items() for path in images]
    rows = rows[:: ceil(len(rows) / most)]  # class by class, so every class is thinned alike
    source = ImageSource(str(folder), [ImageFile(readable(path.relative_to(folder)), str(path)) for path, _ in rows])
    tried = range(0, len(rows), ceil(len(rows) / TRIED))
    if all(source.read(index) is None for index in tried):
        raise UsageError(f"labelled '{folder}': none of {len(tried)} images can be read ({source.unreadable[0]}).")
    return Split(source, torch.tensor([label for _, label in rows]))


def knn_accuracy(labelled: Labelled, state: Training) -> float | None:
    """Share of the queries that kNN finds the class of, by the backbone that would be exported (method.md §7).

    Returns:
        in [0, 1]; None where a stop was asked for, which this must not delay, or where nothing can be read.
    """
    images = len(labelled.bank.labels) + len(labelled.queries.labels)
    with progress_bar(images, f"epoch {state.epoch + 1}: kNN", quiet=state.quiet) as bar:
        bank, queries = (_features(split, state, bar.advance) for split in (labelled.bank, labelled.queries))
    if bank is None or queries is None:
        return None
    (rows, labels), (asked, truth) = bank, queries
    return (knn_predict(rows, labels, asked, k=min(K, len(rows))) == truth).double().mean().item()


@torch.no_grad()
def _features(split: Split, state: Training, seen: Callable[[int], None]) -> tuple[Tensor, Tensor] | None:
    """(n, D) of the images that can be read, and their classes; None where there are none, or to stop was asked."""
    backbone, shown = state.pair.exported.backbone, state.loader.preprocessing
    loader = Streamed(split.source, shown, state.loader.workers, state.device)
    size, everything, found, legible = 2 * state.config.batch_size, range(len(split.labels)), [], []
    backbone.eval()
    try:
        with closing(loader.squares([everything[i : i + size] for i in everything[::size]])) as squares:
            for pixels, decoded in squares:
                if state.stop.requested:
                    return None
                with autocast(state.device, state.dtype):
                    found.append(backbone(shown.normalise(pixels)).float())
                legible.append(decoded)
                seen(len(pixels))
    finally:
        backbone.train()
    rows = torch.cat(legible)
    return (torch.cat(found)[rows.to(state.device)], split.labels[rows].to(state.device)) if bool(rows.any()) else None
