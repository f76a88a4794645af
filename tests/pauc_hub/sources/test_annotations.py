"""Labels and groups of images: from folders, files, Parquet columns and tars; and what does not
match.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.sources.annotations import (
    Annotations,
    WantedColumns,
    annotate,
    first_folders,
    read_labels_file,
)

NOTHING = WantedColumns()


def from_file(names: Sequence[str], path: Path, wanted: WantedColumns = NOTHING) -> Annotations:
    return annotate(names, "/photos", read_labels_file(path, wanted), wanted)


def write_images(path: Path, **columns: object) -> None:
    images = pa.array(
        [{"bytes": b"x", "path": None}] * 4,
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": images, **columns})
    pq.write_table(table, path, row_group_size=2)


def describe(path: Path, **features: object) -> None:
    """As the `datasets` library does it."""
    table = pq.read_table(path)
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(about), path)


def rows_of(file: str, *rows: int) -> list[str]:
    return [f"{file}/{row:09d}/any/name.png" for row in rows]


@pytest.mark.parametrize(
    ("names", "labels", "splits"),
    [
        (["cat/1.jpg", "dog/deep/2.jpg", "3.jpg"], ["cat", "dog", None], None),
        (["Train/cat/1.jpg", "VALID/dog/2.jpg"], ["cat", "dog"], ["train", "val"]),
        # two classes, of which one is railways
        (["train/1.jpg", "test/2.jpg"], ["train", "test"], None),
        (["train/a/1.jpg", "cat/b/2.jpg"], ["train", "cat"], None),
        (["train/cat/1.jpg", "train/dog/2.jpg"], ["train", "train"], None),
    ],
)
def test_the_first_folder_is_the_label_and_splits_are_known(
    names: list[str], labels: list[str | None], splits: list[str] | None
) -> None:
    found = first_folders(names)
    assert found.labels == labels
    assert found.splits == splits


def test_a_file_of_labels_goes_before_folders(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "\ufeffpath,label,video\n./b/2.jpg,dog,v2\n/photos/a/1.jpg, cat ,v1\n", encoding="utf-8"
    )
    found = from_file(["a/1.jpg", "b/2.jpg", "c/3.jpg"], file, WantedColumns(group="video"))
    assert found.labels == ["cat", "dog", None]
    assert found.groups == ["v1", "v2", ""]
    assert found.note is None


def test_the_files_own_names_are_compared_where_no_path_matches(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\n1.jpg,cat\n2.jpg,dog\n")
    assert from_file(["a/1.jpg", "b/2.jpg"], file).labels == ["cat", "dog"]
    with pytest.raises(UsageError, match="none of the 2 paths"):
        from_file(["a/1.jpg", "b/1.jpg"], file)  # which of the two is meant cannot be told


def test_paths_that_match_nothing_are_told_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\na/1.jpg,cat\ncats/10.jpeg,dog\n")
    found = from_file(["a/1.jpg", "b/2.jpg", "cats/10.jpg"], file)
    assert found.note == (
        f"1 of 2 paths in '{file}' match no image: 'cats/10.jpeg' is not there; the nearest is "
        "'cats/10.jpg'."
    )
    with pytest.raises(
        UsageError, match=r"is that of an image: 'a/1.jpg' is not there; the nearest is 'a/1.png'"
    ):
        from_file(["a/1.png", "b/2.png"], file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n1,2\n", "has no column 'path' (its columns: file, label)."),
        ("path,lable\n1,2\n", "has no column 'label' (its columns: path, lable). Is it 'lable'?"),
        ("path,label\n", "holds no rows."),
        ("", "has no column 'path' (its columns: )."),
        ("path,label\na,b,c\n", "(row 2 has 3 fields, and the header 2)."),
        ("path,label\na,b\na,c\n", "holds the path 'a' twice."),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    content: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(content)
    with pytest.raises(UsageError) as refusal:
        from_file(["a"], file)
    assert message in str(refusal.value)
    assert str(file) in str(refusal.value)


def test_lists_in_a_parquet_file_are_several_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    table = pa.table(
        {
            "path": ["1.jpg", "2.jpg"],
            "labels": [["a", "b"], []],
            "hard": [["b"], None],
            "score": [0.5, 1],
        }
    )
    pq.write_table(table, file)
    found = from_file(["1.jpg", "2.jpg"], file, WantedColumns(difficult="hard"))
    assert found.labels == [("a", "b"), ()]
    assert found.difficult == [("b",), ()]
    with pytest.raises(
        UsageError, match="column 'score' holds double, and neither text nor whole numbers"
    ):
        from_file(["1.jpg"], file, WantedColumns(label="score"))


def test_columns_beside_the_images_with_the_names_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    write_images(file, label=[1, 0, -1, 1], scene=[7, 8, 9, 9])
    describe(file, image={"_type": "Image"}, label={"_type": "ClassLabel", "names": ["cat", "dog"]})
    found = annotate(
        rows_of("images.parquet", 3, 1, 2), str(file), None, WantedColumns(group="scene")
    )
    assert found.labels == ["dog", "cat", None]  # -1 is no class
    assert found.groups == ["9", "8", "9"]
    assert annotate(
        rows_of("images.parquet", 0), str(file), None, WantedColumns(label="scene")
    ).labels == ["7"]


def test_lists_of_class_numbers_beside_the_images(tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    write_images(file, objects=[[0, 1], [1], [], [0]], hard=[[1], [], [0], []])
    describe(
        file, objects={"_type": "List", "feature": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    )
    found = annotate(
        rows_of("images.parquet", 0, 1, 2), str(file), None, WantedColumns(difficult="hard")
    )
    assert found.labels == [("cat", "dog"), ("dog",), ()]
    assert found.difficult == [("dog",), (), ("cat",)]


def test_several_files_below_a_folder_and_columns_that_are_not_there(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", label=["x", "y", "x", "y"])
    write_images(tmp_path / "b.parquet", label=["z", "y", "x", "y"])
    names = rows_of("a.parquet", 1) + rows_of("b.parquet", 0)
    assert annotate(names, str(tmp_path), None, NOTHING).labels == ["y", "z"]
    with pytest.raises(
        UsageError, match=r"'a.parquet' has no column 'video'; its columns are image, label."
    ):
        annotate(names, str(tmp_path), None, WantedColumns(group="video"))
    with pytest.raises(UsageError, match=r"'c.parquet' is no longer in"):
        annotate(rows_of("c.parquet", 1), str(tmp_path), None, NOTHING)


def test_a_column_of_labels_must_be_known(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", kind=["x", "y", "x", "y"])
    with pytest.raises(
        UsageError, match=r"'a.parquet' has no column 'label'; its columns are image, kind"
    ):
        annotate(rows_of("a.parquet", 1), str(tmp_path), None, NOTHING)
    assert annotate(
        rows_of("a.parquet", 1), str(tmp_path), None, WantedColumns(label="kind")
    ).labels == ["y"]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_cls_members_of_tars(suffix: str, tmp_path: Path) -> None:
    members = {"./a/1.jpg": b"", "./a/1.cls": b"3\n", "2.x.jpg": b"", "2.cls": b"cat", "4.jpg": b""}
    with tarfile.open(tmp_path / f"s.{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    names = [f"s.{suffix}/{name}" for name in ("a/1.jpg", "2.x.jpg", "4.jpg")]
    assert annotate(names, str(tmp_path), None, NOTHING).labels == ["3", "cat", None]


def test_tars_without_classes_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(UsageError, match=r"hold no member that ends in \.cls"):
        annotate(["s.tar/1.jpg"], str(tmp_path), None, NOTHING)
    (tmp_path / "s.tar").write_bytes(b"x" * 2000)
    with pytest.raises(PaucError, match=r"'s\.tar' cannot be read for its labels"):
        annotate(["s.tar/1.jpg"], str(tmp_path), None, NOTHING)


def test_images_in_no_folder_have_no_label() -> None:
    with pytest.raises(UsageError, match=r"no labels: '1\.jpg' and 1 others lie in no folder"):
        annotate(["1.jpg", "2.jpg"], "/photos", None, NOTHING)
    with pytest.raises(UsageError, match="the images have no column 'video'"):
        annotate(["a/1.jpg"], "/photos", None, WantedColumns(group="video"))


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["train-00000-of-00002.parquet", "test-00000-of-00001.parquet"], ["train", "test"]),
        (["tiny-imagenet-train-00.parquet", "Tiny_VALIDATION.parquet"], ["train", "val"]),
        (["train.parquet", "more.parquet"], None),
        (["test.parquet", "val.parquet"], None),
        (["train.parquet", "train-test.parquet"], None),
        (["trains.parquet", "tests.parquet"], None),
    ],
)
def test_parquet_files_are_splits_where_all_their_names_say_one(
    files: list[str], splits: list[str] | None, tmp_path: Path
) -> None:
    for file in files:
        write_images(tmp_path / file, label=["x", "y", "x", "y"])
    names = [name for file in files for name in rows_of(file, 0, 1)]
    found = annotate(names, str(tmp_path), None, NOTHING)
    assert found.labels == ["x", "y", "x", "y"]
    assert found.splits == (
        None if splits is None else [split for split in splits for _ in range(2)]
    )


def test_tiny_imagenet_as_it_is_distributed(tmp_path: Path) -> None:
    """Labels of the validation images stand in a file, and those of the test images nowhere."""
    names = [
        "train/n1/images/a.JPEG",
        "train/n2/images/b.JPEG",
        "val/images/v0.JPEG",
        "val/images/v1.JPEG",
    ]
    names.append("test/images/t0.JPEG")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "val_annotations.txt").write_text(
        "v0.JPEG\tn2\t0\t0\t1\t1\nv1.JPEG\tn1\t0\t0\t1\t1\n"
    )
    found = annotate(names, str(tmp_path), None, NOTHING)
    assert found.labels == ["n1", "n2", "n2", "n1", None]
    assert found.splits == ["train", "train", "val", "val", "test"]
    # and without that file they are a class like any other
    assert annotate(names, "/elsewhere", None, NOTHING).labels[2:] == ["images"] * 3
