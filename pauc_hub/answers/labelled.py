"""Tables with labels, as a probe needs them: opened, checked and in memory. N images, D width, C
classes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt

from pauc_hub.answers.inputs import Given, rows_of
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.design import Features
from pauc_hub.evaluation.folds import Numbers, Targets, units_of_each_class
from pauc_hub.memory import free_memory
from pauc_hub.sources import open_source
from pauc_hub.sources.annotations import Annotations, Label, LabelsFile, WantedColumns, annotate
from pauc_hub.sources.walked import Walked
from pauc_hub.tables.stored import read_names

SHARE = 4
"""A table that takes more than this part of the free memory stays on disk, as raw floats."""


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """The labelled images of a table; row i of each field belongs to one image."""

    name: str
    """For messages."""
    given: Given
    places: Numbers
    """(N,) rows of the table, ascending."""
    labels: list[Label]
    groups: list[str] | None
    difficult: list[tuple[str, ...]] | None
    splits: list[str] | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return isinstance(self.labels[0], tuple)

    def paths(self) -> list[str]:
        """(N,) names of the images."""
        names = list(read_names(self.given.path))
        return [names[place] for place in self.places]

    def only(self, split: str) -> "LabelledTable":
        """The images of one split."""
        assert self.splits is not None
        keep = [i for i, each in enumerate(self.splits) if each == split]
        return replace(
            self,
            name=f"{self.name} ({split})",
            places=self.places[keep],
            labels=[self.labels[i] for i in keep],
            groups=None if self.groups is None else [self.groups[i] for i in keep],
            difficult=None if self.difficult is None else [self.difficult[i] for i in keep],
            splits=None,
        )


def label_table(given: Given, file: LabelsFile | None, wanted: WantedColumns) -> LabelledTable:
    """The images of a table that have a label.

    Raises:
        UsageError: none has one, or labels cannot be had.
    """
    names = list(read_names(given.path))
    found = annotate(names, given.table.provenance.root, file, wanted)
    _require_groups(found, wanted)
    places = [i for i, label in enumerate(found.labels) if label is not None]
    labels = [label for label in found.labels if label is not None]
    if not labels:
        raise UsageError(f"not one of the {len(names)} images in '{given.path}' has a label.")
    notes = [] if found.note is None else [found.note]
    if left := len(names) - len(labels):
        notes.append(
            f"{left} of {len(names)} images in '{given.path}' have no label and are left out"
        )
    return _taken(given, found, places, labels, tuple(notes))


def check_folder(place: str | Path, file: LabelsFile | None, wanted: WantedColumns) -> None:
    """Refuse a folder of images whose labels will not do, before its images are embedded.

    Raises:
        UsageError: as label_table() and require_classes() do.
    """
    source = open_source(place)
    if not isinstance(source, Walked):
        return
    names = [entry.name for entry in source.entries()]
    found = annotate(names, source.root, file, wanted)
    learned = [i for i, label in enumerate(found.labels) if label is not None]
    if found.splits:
        learned = [i for i in learned if found.splits[i] == "train"]
    labels = [label for i in learned if (label := found.labels[i]) is not None]
    if not labels:
        raise UsageError(f"not one of the {len(names)} images in '{place}' has a label.")
    groups = None if found.groups is None else [found.groups[i] for i in learned]
    require_classes(str(place), labels, groups, class_names(labels))


def _require_groups(found: Annotations, wanted: WantedColumns) -> None:
    """Refuse labelled images without a group: each might belong to any."""
    if found.groups is None:
        return
    lacking = sum(
        group == ""
        for group, label in zip(found.groups, found.labels, strict=True)
        if label is not None
    )
    if lacking:
        raise UsageError(
            f"{lacking} labelled images have no value in column '{wanted.group}'. Give each one."
        )


def _taken(
    given: Given, found: Annotations, places: list[int], labels: list[Label], notes: tuple[str, ...]
) -> LabelledTable:
    return LabelledTable(
        name=str(given.path),
        given=given,
        places=np.array(places, np.int64),
        labels=labels,
        groups=None if found.groups is None else [found.groups[i] for i in places],
        difficult=None if found.difficult is None else [found.difficult[i] for i in places],
        splits=None if found.splits is None else [found.splits[i] for i in places],
        notes=notes,
    )


def class_names(labels: Sequence[Label]) -> list[str]:
    """All classes, in the order of people: 2 before 10."""
    names = {name for label in labels for name in ((label,) if isinstance(label, str) else label)}
    return sorted(names, key=_natural)


def to_targets(labels: Sequence[Label], classes: Sequence[str]) -> Targets:
    """(N,) class numbers, or (N, C) of 0 and 1 where an image may have several labels."""
    index = {name: c for c, name in enumerate(classes)}
    if isinstance(labels[0], str):
        return np.array([index[str(label)] for label in labels], np.int64)
    targets = np.zeros((len(labels), len(classes)), np.int64)
    for row, label in enumerate(labels):
        targets[row, [index[name] for name in label]] = 1
    return targets


def require_classes(
    name: str, labels: Sequence[Label], groups: Sequence[str] | None, classes: Sequence[str]
) -> None:
    """Refuse labels of training images that no classifier can be chosen on.

    Args:
        name: of the images, for the message.

    Raises:
        UsageError: fewer than two classes, or a class with one image, or in one group alone.
    """
    if not classes:
        raise UsageError(
            f"none of the {len(labels)} labelled images of '{name}' has a label in its list."
        )
    if len(classes) < 2 and isinstance(labels[0], str):
        raise UsageError(
            f"all {len(labels)} labelled images of '{name}' have the label '{classes[0]}'; a "
            "probe needs two classes. "
            "Labels are the first folder of a path unless labels=FILE.csv gives others."
        )
    targets = to_targets(labels, classes)
    images = units_of_each_class(targets, len(classes))
    units = units_of_each_class(
        targets, len(classes), None if groups is None else group_numbers(groups)
    )
    if (units >= 2).all():
        return
    alone = int((units < 2).argmax())
    few = int((units < 2).sum())
    others = f" ({few} classes are like that)" if few > 1 else ""
    if images[alone] < 2:
        raise UsageError(
            f"class '{classes[alone]}' has one image in '{name}'{others}; it needs two. Add "
            "images, or leave it out."
        )
    raise UsageError(
        f"all {images[alone]} images of class '{classes[alone]}' in '{name}' are in one "
        f"group{others}, so that none "
        "can be held out. Add images of another group, or leave the class out."
    )


def require_known(test: LabelledTable, train: LabelledTable, classes: Sequence[str]) -> None:
    """Refuse test images of classes that were not learned, and labels of another kind.

    Raises:
        UsageError: saying how many images of which class.
    """
    if test.several != train.several:
        one, other = (train, test) if train.several else (test, train)
        raise UsageError(
            f"'{one.name}' has lists of labels and '{other.name}' one label an image. Give both "
            "alike."
        )
    counts = Counter(
        name for label in test.labels for name in ((label,) if isinstance(label, str) else label)
    )
    strange = [name for name in counts if name not in {*classes}]
    if strange:
        others = f" ({len(strange)} classes are like that)" if len(strange) > 1 else ""
        raise UsageError(
            f"'{test.name}' has {counts[strange[0]]} images of class '{strange[0]}'{others}, "
            f"which '{train.name}' "
            f"lacks. Its classes are {_listed(classes)}."
        )


def group_numbers(groups: Sequence[str]) -> Numbers:
    """(N,) a number for each name."""
    numbers: Numbers = np.unique(np.array(groups), return_inverse=True)[1]
    return numbers


def load_features(table: LabelledTable) -> Features:
    """(N, D) of the labelled images, as the table stores them; mapped from a file without a name
    where large.

    Raises:
        TableError: an embedding is not finite.
    """
    shape = (len(table), table.given.width)
    features = _room(shape, table.given.table.dtype)
    filled = 0
    for stretch in rows_of(table.given):
        last = stretch.start + len(stretch.paths)
        places = table.places[filled : int(np.searchsorted(table.places, last))]
        features[filled : filled + len(places)] = stretch.vectors[places - stretch.start]
        filled += len(places)
    return features


def _room(shape: tuple[int, int], dtype: npt.DTypeLike) -> Features:
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    if size <= free_memory() // SHARE:
        return np.empty(shape, dtype)
    with TemporaryFile() as file:
        return np.memmap(file, dtype, mode="w+", shape=shape)


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:10])
    return shown if len(classes) <= 10 else f"{shown} and {len(classes) - 10} more"
