"""The errors table, what tables are called, and files that are there whole or not at all."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pauc_hub.errors import UsageError
from pauc_hub.tables.table import Unreadable, errors_path, table_of, whole_file, write_errors


def test_errors_are_a_table_of_their_own(tmp_path: Path) -> None:
    path = errors_path(tmp_path / "photos.v2.parquet")
    assert path.name == "photos.v2.errors.parquet"
    write_errors(
        path,
        iter(
            [Unreadable("a.jpg", "empty", "the file has no bytes"), Unreadable("b.jpg", "io", "x")]
        ),
    )
    assert pq.read_table(path).to_pylist() == [
        {"path": "a.jpg", "kind": "empty", "message": "the file has no bytes"},
        {"path": "b.jpg", "kind": "io", "message": "x"},
    ]


@pytest.mark.parametrize(
    ("table", "errors"),
    [
        ("photos.parquet", "photos.errors.parquet"),
        ("photos.npy", "photos.errors.parquet"),
        ("photos.safetensors", "photos.errors.parquet"),
        ("photos.2024", "photos.2024.errors.parquet"),  # a folder of parts may have any name
    ],
)
def test_the_errors_table_is_named_after_its_table(table: str, errors: str) -> None:
    assert errors_path(Path("a.b", table)) == Path("a.b", errors)


def test_a_file_replaces_an_older_one_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_table_lies_beside_what_it_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "v1.2"):
        Path(folder).mkdir()
    for file in ("cat.jpg", "shards.tar", "shards.tar.gz", "a.b.tgz", "list.txt"):
        Path(file).touch()
    tables = {
        "photos/": "photos.parquet",
        "v1.2": "v1.2.parquet",
        "cat.jpg": "cat.parquet",
        "shards.tar": "shards.parquet",
        "shards.tar.gz": "shards.parquet",
        "a.b.tgz": "a.b.parquet",
        "list.txt": "list.parquet",
        ".": f"../{tmp_path.name}.parquet",
    }
    assert {place: table_of(place).resolve() for place in tables} == {
        place: (tmp_path / table).resolve() for place, table in tables.items()
    }


@pytest.mark.parametrize(
    "place", ["/", "s3://bucket/photos", "shards/*.tar", "shards/{00..11}.tar"]
)
def test_where_a_table_would_have_no_name_one_must_be_given(place: str) -> None:
    with pytest.raises(UsageError) as refusal:
        table_of(place)
    assert str(refusal.value) == f"the table of '{place}' needs a name: give one with -o."


@pytest.mark.parametrize("named", [False, True])
def test_a_table_never_takes_the_place_of_its_source(tmp_path: Path, named: bool) -> None:
    output = tmp_path / "sub" / ".." / "photos.parquet" if named else None
    (tmp_path / "photos.parquet").touch()
    with pytest.raises(
        UsageError, match=r"photos\.parquet' would take its place: name another with -o\.$"
    ):
        table_of(str(tmp_path / "photos.parquet"), output)
