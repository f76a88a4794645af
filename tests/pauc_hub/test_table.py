"""The errors table, what tables are called, and files that are there whole or not at all."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pauc_hub.table import Unreadable, errors_path, whole_file, write_errors


def test_errors_are_a_table_of_their_own(tmp_path: Path) -> None:
    path = errors_path(tmp_path / "photos.v2.parquet")
    assert path.name == "photos.v2.errors.parquet"
    write_errors(path, iter([Unreadable("a.jpg", "empty", "the file has no bytes"), Unreadable("b.jpg", "io", "x")]))
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
