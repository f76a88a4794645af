"""The labelled folder: which images vote on which, how often, what is refused, and a score that is
kNN's.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.errors import UsageError
from pauc_hub.sources.by_index import from_entries, open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.monitoring import labelled
from pauc_hub.training.monitoring.labelled import (
    LabelledImages,
    Split,
    knn_accuracy,
    open_labelled_images,
)
from pauc_hub.training.state import Training, new_training


def write(folder: Path, count: int, colour: tuple[int, int, int] = (90, 90, 90)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(-20, 20, (8, 8, 3))
        Image.fromarray((np.array(colour) + noise).astype(np.uint8)).resize((32, 32)).save(
            folder / f"{i:02}.png"
        )


def names(split: Split) -> dict[str, int]:
    return dict(zip(split.source.names, split.labels.tolist(), strict=True))


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as refused:
        open_labelled_images(folder)
    return str(refused.value)


def test_train_is_the_bank_and_val_is_asked_about(tmp_path: Path) -> None:
    for place, count in (
        ("train/cat", 2),
        ("train/dog", 1),
        ("val/dog", 1),
        ("test/cat", 1),
        ("train/none", 0),
    ):
        write(tmp_path / place, count)
    found = open_labelled_images(tmp_path)
    assert names(found.bank) == {
        "train/cat/00.png": 0,
        "train/cat/01.png": 0,
        "train/dog/00.png": 1,
    }
    # numbered as in the bank, whose first class it lacks
    assert names(found.queries) == {"val/dog/00.png": 1}


def test_test_stands_in_for_val(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "test/cat"):
        write(tmp_path / place, 1)
    assert names(open_labelled_images(tmp_path).queries) == {"test/cat/00.png": 0}


def test_the_line_says_classes_voters_queries_and_chance(tmp_path: Path) -> None:
    for place, count in (
        ("Train/cat", 3),
        ("Train/dog", 3),
        ("Validation/cat", 2),
        ("Validation/dog", 2),
    ):
        write(tmp_path / place, count)
    line = f"kNN on '{tmp_path}': 2 classes, 6 vote on 4 (Train on Validation); chance is 50.0 %"
    assert open_labelled_images(tmp_path).described() == [line]
    write(tmp_path / "Train" / "dog" / "more", 1)
    write(tmp_path / "Validation" / "dog" / "more", 4)
    line = f"kNN on '{tmp_path}': 2 classes, 7 vote on 8 (Train on Validation); chance is 50.0 %"
    # 6 of 8
    assert open_labelled_images(tmp_path).described() == [
        f"{line}, always naming the most frequent class 75.0 %"
    ]


def test_classes_without_voters_are_named(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "val/ant", "val/dog"):
        write(tmp_path / place, 1)
    found = open_labelled_images(tmp_path)
    assert names(found.queries) == {"val/ant/00.png": 0, "val/dog/00.png": 2}
    line, warning = found.described()
    assert ": 3 classes, 2 vote on 2 (train on val); chance is 33.3 %, " in line
    assert line.endswith(", always naming the most frequent class 50.0 %")
    assert warning == "warning: train has no image of 'ant', so kNN gets none of these right"


def test_the_score_of_the_card_names_protocol_and_splits(tmp_path: Path) -> None:
    for place in ("mine/cat", "mine/dog"):
        write(tmp_path / place, 5)
    assert open_labelled_images(tmp_path / "mine").score(
        0.75, Config(size=64, seed=3), "pauc train x"
    ) == {
        "protocol": "weighted kNN, k = 8, T = 0.1, cosine; chance 50.0 %",
        "metric": "top-1 %",
        "space": "backbone",
        "resolution": 64,
        "bank": "mine: four of five images, 8",
        "queries": "mine: every fifth of a class, 2",
        "value": 75.0,
        "seed": 3,
        "command": "pauc train x",
    }


def test_without_splits_every_fifth_image_of_a_class_is_asked_about(tmp_path: Path) -> None:
    write(tmp_path / "cat", 6)
    write(tmp_path / "dog", 1)
    write(tmp_path / "dog" / "deep", 10)
    write(tmp_path / ".hidden", 5)
    found = open_labelled_images(tmp_path)
    assert names(found.queries) == {"cat/04.png": 0, "dog/deep/03.png": 1, "dog/deep/08.png": 1}
    assert len(names(found.bank)) == 14
    assert not names(found.bank).keys() & names(found.queries).keys()


def test_large_sets_are_thinned_class_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "cat", 10)
    write(tmp_path / "dog", 10)
    monkeypatch.setattr(labelled, "LARGEST_BANK", 8)
    assert names(open_labelled_images(tmp_path).bank) == {
        **{f"cat/{i:02}.png": 0 for i in (0, 2, 5, 7)},
        **{f"dog/{i:02}.png": 1 for i in (0, 2, 5, 7)},
    }


def test_what_cannot_be_measured_on_is_refused_in_a_line(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"labelled images: '{tmp_path / 'no'}' cannot be listed (No such file or directory). "
        "Give a folder with one subfolder of images for each class."
    )
    write(tmp_path / "cat", 4)
    write(tmp_path / "dog", 4)
    assert (
        refusal(tmp_path)
        == f"labelled images: '{tmp_path}' needs 5 images of a class, one of which is asked about."
    )


def test_validation_images_that_are_not_sorted_by_class_are_refused(tmp_path: Path) -> None:
    """Tiny ImageNet as it is distributed."""
    for place in ("train/n01443537/images", "train/n01629819/images", "val/images"):
        write(tmp_path / place, 1)
    assert refusal(tmp_path) == (
        f"labelled images: '{tmp_path / 'val'}' holds its images in 'images' instead of one "
        "subfolder for each class. "
        "Sort them into subfolders named as those of 'train'."
    )


def test_images_none_of_which_can_be_read_are_refused(tmp_path: Path) -> None:
    for place in ("cat", "dog"):
        write(tmp_path / place, 5)
        for path in (tmp_path / place).iterdir():
            path.write_bytes(b"")
    assert (
        refusal(tmp_path)
        == f"labelled images: '{tmp_path}': none of 8 images can be read (the file has no bytes)."
    )


@pytest.mark.parametrize(
    ("bank", "queries", "images", "due"),
    [
        (20, 5, 100, [1, 2, 3, 4, 5, 6, 7]),
        # CIFAR-10: 60,000 = 4.8 times a quarter of 50,000; and the last
        (50_000, 10_000, 50_000, [5, 7]),
        (20, 6, 100, [2, 4, 6, 7]),
    ],
)
def test_it_is_asked_so_often_that_it_costs_little(
    bank: int, queries: int, images: int, due: list[int]
) -> None:
    parts = [Split("x", from_entries("x", []), torch.zeros(count)) for count in (bank, queries)]
    assert [
        epoch
        for epoch in range(1, 8)
        if LabelledImages(Path("x"), ("a",), *parts).is_due(epoch, 7, images)
    ] == due


@pytest.fixture
def coloured(tmp_path: Path) -> tuple[LabelledImages, Training]:
    """Two classes told apart by their colours, which any network sees; and a run about to begin."""
    for split, count in (("train", 6), ("val", 3)):
        write(tmp_path / "labelled" / split / "red", count, (200, 30, 30))
        write(tmp_path / "labelled" / split / "green", count, (30, 200, 30))
    (tmp_path / "labelled" / "train" / "red" / "bad.png").write_bytes(b"")
    source = open_by_index(tmp_path / "labelled" / "train")
    config = Config(
        architecture="test_resnet",
        size=32,
        batch_size=4,
        queue=4,
        clusters=(2,),
        precision="fp32",
        dim=8,
    )
    state = new_training(
        tmp_path, config, source, torch.device("cpu"), 1, StopRequest(), quiet=True
    )
    return open_labelled_images(tmp_path / "labelled"), state


def test_the_score_is_the_share_of_queries_that_are_told_right(
    coloured: tuple[LabelledImages, Training],
) -> None:
    found, state = coloured
    before = {name: value.clone() for name, value in state.pair.state_dict().items()}
    assert knn_accuracy(found, state) == 1.0
    swapped = dataclasses.replace(found.queries, labels=1 - found.queries.labels)
    assert knn_accuracy(dataclasses.replace(found, queries=swapped), state) == 0.0
    assert all(value.equal(before[name]) for name, value in state.pair.state_dict().items())
    assert state.pair.exported.backbone.training


def test_a_stop_is_not_delayed_by_it(coloured: tuple[LabelledImages, Training]) -> None:
    found, state = coloured
    state.stop.requested = True
    assert knn_accuracy(found, state) is None
