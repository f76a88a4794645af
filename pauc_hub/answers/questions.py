"""Labelled images as a question to a protocol: opened, checked, loaded, and looked through for
copies.
"""

from pathlib import Path

import numpy as np

from pauc_hub.answers.duplicate_threshold import Threshold, calibrate_for_leakage
from pauc_hub.answers.inputs import Given, open_input
from pauc_hub.answers.labelled import (
    LabelledTable,
    check_folder,
    class_names,
    group_numbers,
    label_table,
    load_features,
    require_classes,
    require_known,
    to_targets,
)
from pauc_hub.answers.protocols import Question, Tested
from pauc_hub.device import choose_device, choose_precision
from pauc_hub.errors import TableError
from pauc_hub.evaluation.linear_probe import LabelledRows, Resources
from pauc_hub.memory import free_memory
from pauc_hub.origin import require_same_origin
from pauc_hub.progress import progress_bar
from pauc_hub.retrieval.leakage import copied_rows
from pauc_hub.sources.annotations import LabelsFile, WantedColumns
from pauc_hub.tables.stored import is_table

MEMORY_SHARE = 3
"""Standardised copies of the rows may take this part of the free memory."""


def open_labelled(
    train: str | Path,
    test: str | Path | None,
    file: LabelsFile | None,
    wanted: WantedColumns,
    *,
    model: str | Path | None,
    space: str,
    device: str,
    quiet: bool,
) -> tuple[LabelledTable, LabelledTable | None]:
    """The training and the test images, embedded where need be; None where the training images are
    cross-validated.

    Raises:
        UsageError: labels are missing, do not match, or are too few.
        OriginMismatch: the tables were made by different models, in different spaces, or from other
            pixels.
        PaucError: as embed() does.
    """
    if Path(train).is_dir() and not is_table(Path(train)):
        check_folder(train, file, wanted)
    first = open_input(train, model=model, space=space, device=device, quiet=quiet)
    learned = label_table(first, file, wanted)
    asked: LabelledTable | None = None
    if test:
        like = None if is_table(Path(test)) else first.origin
        second = open_input(test, model=model, like=like, device=device, quiet=quiet)
        _require_alike(first, second)
        asked = label_table(second, file, wanted)
    elif learned.splits:
        learned, asked = _by_split(learned)
    classes = class_names(learned.labels)
    require_classes(learned.name, learned.labels, learned.groups, classes)
    if asked:
        require_known(asked, learned, classes)
    return learned, asked


def pose_question(
    learned: LabelledTable,
    asked: LabelledTable | None,
    classes: list[str],
    *,
    model: str | Path | None,
    device: str,
    seed: int,
    quiet: bool,
) -> tuple[Question, list[tuple[str, str]]]:
    """The labelled features, and the test images of which a copy is among the training images.

    Args:
        model: what embedded the images, where its name in the tables does not lead to it.
    """
    place = choose_device(device)
    features = load_features(learned)
    groups = None if learned.groups is None else group_numbers(learned.groups)
    data = LabelledRows(features, to_targets(learned.labels, classes), len(classes), groups)
    resources = Resources(place, free_memory() // MEMORY_SHARE, choose_precision("auto", place))
    if asked is None:
        return Question(data, classes, None, resources, seed), []
    others = load_features(asked)
    names = (learned.paths(), asked.paths())
    threshold = calibrate_for_leakage(
        learned.given, features, names[0], len(names[1]), model, device
    )
    with progress_bar(len(learned), "looking for copies", quiet=quiet) as bar:
        copied = copied_rows(features, others, threshold.value, device=place, advance=bar.advance)
    copies = [(names[1][row], names[0][copied[row]]) for row in np.flatnonzero(copied >= 0)]
    test_groups = None if asked.groups is None else group_numbers(asked.groups)
    test = Tested(others, to_targets(asked.labels, classes), test_groups, copied >= 0)
    difficult = None
    if learned.difficult is not None and asked.difficult is not None:
        known = {*classes}
        kept = [
            [tuple(name for name in each if name in known) for each in side]
            for side in (learned.difficult, asked.difficult)
        ]
        difficult = (to_targets(kept[0], classes), to_targets(kept[1], classes))
    return Question(data, classes, test, resources, seed, difficult, threshold), copies


def _by_split(table: LabelledTable) -> tuple[LabelledTable, LabelledTable]:
    """Training and test images of a table whose folders are splits; without a test split, val is
    asked about.
    """
    assert table.splits is not None
    asked = "test" if "test" in table.splits else "val"
    return table.only("train"), table.only(asked)


def _require_alike(train: Given, test: Given) -> None:
    require_same_origin(train.origin, train.path, test.origin, test.path)
    if train.width != test.width:
        raise TableError(
            f"'{train.path}' has {train.width} numbers an image and '{test.path}' {test.width}. "
            "Embed both alike."
        )


def notes_of(
    learned: LabelledTable, asked: LabelledTable | None, copied: Threshold | None = None
) -> list[str]:
    """What a user should know of how labels, groups and copies were found.

    Args:
        copied: from which similarity on a test image counts as a copy.
    """
    notes = list(dict.fromkeys([*learned.notes, *(asked.notes if asked else ())]))
    if copied and copied.recall is not None:
        reached = (
            f"{copied.recall:.0%} of {copied.copies} re-encoded, resized and cropped copies "
            "reach it"
        )
        notes.append(
            f"test images count as copies from a similarity of {copied.value:.4f} on; {reached}"
        )
    if asked and learned.groups is not None and asked.groups is not None:
        shared = {*learned.groups} & {*asked.groups}
        if shared:
            notes.append(
                f"{len(shared)} groups have images in both training and test, such as "
                f"'{min(shared)}'"
            )
    return notes
