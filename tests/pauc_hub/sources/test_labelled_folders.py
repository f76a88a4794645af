"""Splits and classes of a folder: the usual names in any case, and what is never taken for a
class.
"""

from pathlib import Path

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.sources.labelled_folders import find_splits, read_classes


def write(root: Path, *files: str) -> Path:
    """Empty files: nothing here reads an image."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def found(root: Path) -> dict[str, str]:
    return {split: path.name for split, path in find_splits(root).items()}


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize(
    ("held_out", "split"),
    [
        ("val", "val"),
        ("Val", "val"),
        ("valid", "val"),
        ("Validation", "val"),
        ("test", "test"),
        ("TEST", "test"),
        ("testing", "test"),
        ("Holdout", "test"),
    ],
)
def test_splits_are_known_by_their_usual_names_in_any_case(
    tmp_path: Path, train: str, held_out: str, split: str
) -> None:
    write(tmp_path, f"{train}/a/0.png", f"{held_out}/a/0.png", "other/a/0.png")
    assert found(tmp_path) == {"train": train, split: held_out}


def test_all_three_splits_are_found(tmp_path: Path) -> None:
    write(tmp_path, "train/a/0.png", "valid/a/0.png", "test/a/0.png")
    assert found(tmp_path) == {"train": "train", "val": "valid", "test": "test"}


@pytest.mark.parametrize(
    "names", [("train", "bus"), ("val", "test"), ("trains", "vals"), (".train", "val")]
)
def test_one_split_alone_is_none(tmp_path: Path, names: tuple[str, str]) -> None:
    """A train is a vehicle, too."""
    write(tmp_path, *(f"{name}/0.png" for name in names))
    assert found(tmp_path) == {}


def test_classes_are_subfolders_with_images_in_the_order_of_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        "dog/1.png",
        "dog/0.jpg",
        "dog/more/2.png",
        "cat/0.png",
        "cat/notes.txt",
        "0.png",
        ".git/0.png",
    )
    (tmp_path / "none").mkdir()
    classes = read_classes(tmp_path)
    assert {name: [image.name for image in images] for name, images in classes.items()} == {
        "cat": ["0.png"],
        "dog": ["0.jpg", "1.png", "more/2.png"],
    }
    assert classes["dog"][2].path == tmp_path / "dog" / "more" / "2.png"


def test_a_folder_of_folders_is_never_a_class(tmp_path: Path) -> None:
    write(tmp_path, "part1/cat/0.png", "part1/dog/0.png", "part2/cat/0.png")
    with pytest.raises(UsageError) as refused:
        read_classes(tmp_path)
    assert str(refused.value) == (
        f"'{tmp_path / 'part1'}' holds folders and no images of its own, so it is no class. "
        "Give a folder with one "
        "subfolder of images for each class, or with such a folder for each split: train (or "
        "training); "
        "val (or valid, validation); test (or testing, holdout)."
    )
    write(tmp_path, "part1/0.png", "part2/0.png")
    assert list(read_classes(tmp_path)) == ["part1", "part2"]


def test_images_of_a_class_may_lie_in_a_folder_of_that_name(tmp_path: Path) -> None:
    """As in Tiny ImageNet's training split."""
    write(tmp_path, "n01/images/0.png", "n02/images/0.png")
    assert list(read_classes(tmp_path)) == ["n01", "n02"]
    write(tmp_path, "n03/images/deeper/0.png")
    with pytest.raises(UsageError, match="n03' holds folders"):
        read_classes(tmp_path)


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    needs = "subfolders with images, one for each class; it has"
    with pytest.raises(UsageError) as refused:
        read_classes(write(tmp_path, "0.png"))
    assert str(refused.value) == f"'{tmp_path}' needs 2 or more {needs} none."
    with pytest.raises(UsageError) as refused:
        read_classes(write(tmp_path, "cat/0.png"))
    assert str(refused.value) == f"'{tmp_path}' needs 2 or more {needs} only 'cat'."
    assert list(read_classes(tmp_path, least=1)) == ["cat"]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.png' cannot be listed \(Not a directory\)"):
        find_splits(write(tmp_path, "0.png") / "0.png")
