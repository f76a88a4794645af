"""kNN on a labelled folder, while training: it watches, and nothing is ever chosen by it. D width
of the backbone.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pauc_hub.errors import UsageError
from pauc_hub.evaluation.knn import TEMPERATURE, K, knn_predict
from pauc_hub.images.decoding import readable
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.inference.features import encode_squares, features
from pauc_hub.progress import progress_bar
from pauc_hub.sources.by_index import ImageSource, from_entries
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.labelled_folders import IMAGES, Classes, find_splits, read_classes
from pauc_hub.training.config import Config
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.networks.encoder import evaluating
from pauc_hub.training.state import Training

LARGEST_BANK, MOST_QUERIES = 50_000, 10_000  # CIFAR-10's splits, which so stay whole
FIFTH = 5  # of a folder without splits, every fifth image of a class is a query
# of the training images: a forward pass over these is about a twentieth of an epoch's work
IMAGES_AN_EPOCH = 0.25
SHOWN = 3  # classes that a warning names
TRIED = 32  # images that are opened before training starts


@dataclass(frozen=True)
class Split:
    """Images, and the class of each.

    Attributes:
        name: of its folder; where the folder has no splits, which part of it this is.
        labels: (N,) int64.
    """

    name: str
    source: ImageSource
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class LabelledImages:
    """Images of `classes`, which labels number: those of `bank` vote on those of `queries`."""

    folder: Path
    classes: tuple[str, ...]
    bank: Split
    queries: Split

    @property
    def chance(self) -> float:
        """What guessing gets right on average, in [0, 1]."""
        return 1 / len(self.classes)

    @property
    def by_frequency(self) -> float:
        """What always naming the voters' most frequent class gets right, in [0, 1]."""
        count = len(self.classes)
        voters = torch.bincount(self.bank.labels, minlength=count)
        asked = torch.bincount(self.queries.labels, minlength=count)
        return int(asked[voters == voters.max()].max()) / len(self.queries)

    @property
    def without_voters(self) -> list[str]:
        """Classes of the queries that nobody can vote for."""
        return [
            self.classes[i]
            for i in sorted({*self.queries.labels.tolist()} - {*self.bank.labels.tolist()})
        ]

    def described(self) -> list[str]:
        """A line with classes, voters, queries and chance level; and one that warns, where there is
        a reason to.
        """
        line = (
            f"kNN on '{readable(self.folder)}': {len(self.classes)} classes, {len(self.bank)} "
            "vote on "
            f"{len(self.queries)} ({self.bank.name} on {self.queries.name}); chance is "
            f"{100 * self.chance:.1f} %"
        )
        if self.by_frequency > self.chance:
            line += f", always naming the most frequent class {100 * self.by_frequency:.1f} %"
        if not self.without_voters:
            return [line]
        names = ", ".join(f"'{readable(name)}'" for name in self.without_voters[:SHOWN])
        more = ", …" if len(self.without_voters) > SHOWN else ""
        return [
            line,
            (
                f"warning: {self.bank.name} has no image of {names}{more}, so kNN gets none of "
                "these right"
            ),
        ]

    def score(self, accuracy: float, config: Config, command: str) -> dict[str, Any]:
        """As the model's card shows it (models/card.py).

        Args:
            accuracy: in [0, 1].
            command: that measured it.
        """
        k = min(K, len(self.bank))
        return {
            "protocol": (
                f"weighted kNN, k = {k}, T = {TEMPERATURE}, cosine; chance "
                f"{100 * self.chance:.1f} %"
            ),
            "metric": "top-1 %",
            "space": "backbone",
            "resolution": config.size,
            "bank": f"{self.folder.name}: {self.bank.name}, {len(self.bank)}",
            "queries": f"{self.folder.name}: {self.queries.name}, {len(self.queries)}",
            "value": round(100 * accuracy, 2),
            "seed": config.seed,
            "command": command,
        }

    def is_due(self, epoch: int, epochs: int, images: int) -> bool:
        """Whether to look after epoch `epoch` (from 1): so often that it costs little, and after
        the last one.

        Args:
            images: that are trained on.
        """
        every = ceil((len(self.bank) + len(self.queries)) / (IMAGES_AN_EPOCH * images))
        return epoch % every == 0 or epoch == epochs


def open_labelled_images(folder: Path, reading: Reading = PLAIN) -> LabelledImages:
    """One subfolder a class; or such folders for training and validation (else test), of which the
    first is the bank.

    Without splits, every fifth image of a class, in the order of names, is a query. Larger sets are
    thinned evenly.

    Args:
        reading: of the images that are trained on; these are read alike.

    Raises:
        UsageError: there is nothing there that kNN could be measured on.
    """
    try:
        splits = find_splits(folder)
        if not splits:
            names = ("four of five images", "every fifth of a class")
            bank, queries = _every_fifth(read_classes(folder), folder)
        else:
            train, held_out = splits["train"], splits.get("val") or splits["test"]
            names = (readable(train.name), readable(held_out.name))
            bank, queries = read_classes(train), read_classes(held_out, least=1)
            _refuse_unsorted(queries, train, held_out)
        numbers = {name: number for number, name in enumerate(sorted({*bank, *queries}))}
        return LabelledImages(
            folder,
            tuple(numbers),
            _split(names[0], folder, bank, numbers, LARGEST_BANK, reading),
            _split(names[1], folder, queries, numbers, MOST_QUERIES, reading),
        )
    except UsageError as error:
        raise UsageError(f"labelled images: {error}") from error


def _refuse_unsorted(queries: Classes, train: Path, held_out: Path) -> None:
    """Tiny ImageNet's validation images lie in one folder, their classes in a file."""
    if list(queries) == [IMAGES]:
        raise UsageError(
            f"'{readable(held_out)}' holds its images in '{IMAGES}' instead of one subfolder "
            "for each class. "
            f"Sort them into subfolders named as those of '{readable(train.name)}'."
        )


def _every_fifth(classes: Classes, folder: Path) -> tuple[Classes, Classes]:
    queries = {name: images[FIFTH - 1 :: FIFTH] for name, images in classes.items()}
    if not any(queries.values()):
        raise UsageError(
            f"'{readable(folder)}' needs {FIFTH} images of a class, one of which is asked about."
        )
    asked = {image.place for images in queries.values() for image in images}
    return {
        name: [image for image in images if image.place not in asked]
        for name, images in classes.items()
    }, queries


def _split(
    name: str, folder: Path, classes: Classes, numbers: dict[str, int], most: int, reading: Reading
) -> Split:
    rows = [(image.path, numbers[name]) for name, images in classes.items() for image in images]
    rows = rows[:: ceil(len(rows) / most)]  # class by class, so every class is thinned alike
    files = [ImageFile(readable(path.relative_to(folder)), str(path)) for path, _ in rows]
    source = from_entries(str(folder), files, reading=reading)
    tried = range(0, len(rows), ceil(len(rows) / TRIED))
    if all(source.read(index) is None for index in tried):
        reason = source.unreadable[0]
        raise UsageError(
            f"'{readable(folder)}': none of {len(tried)} images can be read ({reason})."
        )
    return Split(name, source, torch.tensor([label for _, label in rows]))


def knn_accuracy(labelled: LabelledImages, state: Training) -> float | None:
    """Share of the queries that kNN finds the class of, in [0, 1]; None where knn_right() gives
    none.
    """
    right = knn_right(labelled, state)
    return None if right is None else right.double().mean().item()


def knn_right(labelled: LabelledImages, state: Training) -> Tensor | None:
    """Of which queries kNN finds the class, by the backbone that would be exported (method.md §7).

    Returns:
        (n,) bool, of the queries that can be read; None where a stop was asked for, which this must
        not delay, or where nothing can be read.
    """
    images = len(labelled.bank) + len(labelled.queries)
    with progress_bar(images, f"epoch {state.epoch + 1}: kNN", quiet=state.quiet) as bar:
        bank, queries = (
            backbone_features(split, state, bar.advance)
            for split in (labelled.bank, labelled.queries)
        )
    if bank is None or queries is None:
        return None
    (rows, labels), (asked, truth) = bank, queries
    predicted = knn_predict(rows, labels, asked, k=min(K, len(rows)), temperature=TEMPERATURE)
    return predicted == truth


@torch.no_grad()
def backbone_features(
    split: Split, state: Training, seen: Callable[[int], None]
) -> tuple[Tensor, Tensor] | None:
    """(n, D) of the images that can be read, and their classes; None where there are none, or to
    stop was asked.
    """
    encoder, shown = state.pair.exported, state.loader.at(state.side).preprocessing
    loader = Streamed(split.source, shown, state.loader.workers, state.device)
    size, everything = 2 * state.config.batch_size, range(len(split))
    found, legible = [], []

    def encode(batch: tuple[Tensor, Tensor]) -> Tensor:
        return encode_squares(encoder.backbone, batch[0], shown, state.device, state.dtype)

    batches = [everything[i : i + size] for i in everything[::size]]
    with evaluating(encoder), closing(loader.squares(batches)) as squares:
        for rows, (_, decoded) in features(encode, squares):
            if state.stop.requested:
                return None
            found.append(rows)
            legible.append(decoded)
            seen(len(rows))
    there = torch.cat(legible)
    if not bool(there.any()):
        return None
    return torch.cat(found)[there.to(state.device)], split.labels[there].to(state.device)
