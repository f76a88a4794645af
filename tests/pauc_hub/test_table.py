"""The embedding table: what others read in it, what comes back, and that it is there whole or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pauc_hub import table as table_module
from pauc_hub.errors import OutputExists, PaucError, TableError, UsageError
from pauc_hub.table import (
    Provenance,
    TableWriter,
    Unreadable,
    check_output,
    errors_path,
    read_table,
    whole_file,
    write_errors,
)

PROVENANCE = Provenance("pauc_resnet18.x", "ab" * 32, "backbone", {"crop_pct": 0.9}, "fp32", "/photos/été", "0.1.0")


def rows(count: int, width: int = 3) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    embeddings = np.arange(count * width, dtype=np.float32).reshape(count, width) / np.float32(7)
    sizes = np.arange(count * 2, dtype=np.int32).reshape(count, 2)
    return [f"f/{i:03} ä.jpg" for i in range(count)], embeddings, sizes


def write(path: Path, count: int = 5, width: int = 3, provenance: Provenance = PROVENANCE) -> Path:
    with TableWriter(path, width, provenance) as table:
        table.write(*rows(count, width))
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.parquet", count=5))
    names, embeddings, sizes = rows(5)
    assert table.paths == names
    assert np.array_equal(table.embeddings, embeddings)
    assert table.embeddings.dtype == np.float32
    assert np.array_equal(table.sizes, sizes)
    assert table.provenance == PROVENANCE
    assert left(tmp_path) == ["t.parquet"]


def test_several_writes_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROW_GROUP_BYTES", 4 * 3 * 4)  # of 4 rows
    names, embeddings, sizes = rows(10)
    with TableWriter(tmp_path / "t.parquet", 3, PROVENANCE) as table:
        for start in (0, 3, 6, 9):
            table.write(*(column[start : start + 3] for column in (names, embeddings, sizes)))  # type: ignore[arg-type]
    assert read_table(tmp_path / "t.parquet").paths == names
    assert np.array_equal(read_table(tmp_path / "t.parquet").embeddings, embeddings)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3  # of 4, 4 and 2 rows


def test_the_same_rows_give_the_same_file_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROW_GROUP_BYTES", 4 * 3 * 4)  # of 4 rows
    names, embeddings, sizes = rows(23)
    for step in (1, 3, 4, 9, 23):
        with TableWriter(tmp_path / f"{step}.parquet", 3, PROVENANCE) as table:
            for start in range(0, 23, step):
                part = slice(start, start + step)
                table.write(names[part], embeddings[part], sizes[part])
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    schema = pq.read_schema(write(tmp_path / "t.parquet"))
    assert [(field.name, field.type) for field in schema] == [
        ("path", pa.string()),
        ("embedding", pa.list_(pa.float32(), 3)),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
    assert json.loads(schema.metadata[b"pauc"]) == {
        "format_version": 1,
        "model": "pauc_resnet18.x",
        "weights_sha256": "ab" * 32,
        "space": "backbone",
        "preprocessing": {"crop_pct": 0.9},
        "precision": "fp32",
        "root": "/photos/été",
        "package_version": "0.1.0",
    }


def test_an_empty_table_keeps_its_width(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t.parquet", 3, PROVENANCE):
        pass
    assert read_table(tmp_path / "t.parquet").embeddings.shape == (0, 3)


def write_and_stop(path: Path, error: type[BaseException]) -> None:
    with TableWriter(path, 3, PROVENANCE) as table:
        table.write(*rows(5))
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_nothing_is_left_and_nothing_is_lost_when_writing_stops(
    tmp_path: Path, error: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / "t.parquet"
    if before:
        path.write_bytes(before)
    with pytest.raises(error):
        write_and_stop(path, error)
    assert left(tmp_path) == (["t.parquet"] if before else [])
    assert not before or path.read_bytes() == before


FULL = (
    r"^'.*t\.parquet' could not be written \(No space left on device\), and nothing of it is left\. Make room, or name"
)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("wb")  # noqa: SIM115
    monkeypatch.setattr(Path, "open", lambda *_: full)
    monkeypatch.setattr(table_module, "ROW_GROUP_BYTES", 1)
    with pytest.raises(PaucError, match=FULL):
        write(tmp_path / "t.parquet", count=9, width=4096)
    assert left(tmp_path) == []


def test_a_disk_that_fills_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PaucError, match=FULL):
        write(tmp_path / "t.parquet")
    assert left(tmp_path) == []


def test_errors_are_a_table_of_their_own(tmp_path: Path) -> None:
    path = errors_path(tmp_path / "photos.v2.parquet")
    assert path.name == "photos.v2.errors.parquet"
    write_errors(path, iter([Unreadable("a.jpg", "empty", "the file has no bytes"), Unreadable("b.jpg", "io", "x")]))
    assert pq.read_table(path).to_pylist() == [
        {"path": "a.jpg", "kind": "empty", "message": "the file has no bytes"},
        {"path": "b.jpg", "kind": "io", "message": "x"},
    ]


def test_a_file_replaces_an_older_one_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


REFUSED_OUTPUTS = [
    ("there.parquet", OutputExists, r"^'.*/there\.parquet' exists\. Name another place, or give --overwrite\.$"),
    (
        "stale.parquet",
        OutputExists,
        r"^'.*/stale\.errors\.parquet' exists\. Name another place, or give --overwrite\.$",
    ),
    ("folder.parquet", OutputExists, r"^'.*/folder\.parquet' is a folder\. Name another place\.$"),
    ("t.npy", UsageError, r"^the output '.*/t\.npy' must end in \.parquet\.$"),
    ("no/t.parquet", UsageError, r"^'.*/no/t\.parquet' cannot be written \(No such file or directory\)\. Name another"),
    ("there.parquet/t.parquet", UsageError, r"\(Not a directory\)"),
    ("n" * 245 + ".parquet", UsageError, r"\(File name too long\)"),
]


@pytest.mark.parametrize(("name", "error", "message"), REFUSED_OUTPUTS, ids=[row[0][:20] for row in REFUSED_OUTPUTS])
def test_outputs_that_cannot_be_are_refused_beforehand(
    tmp_path: Path, name: str, error: type[PaucError], message: str
) -> None:
    (tmp_path / "there.parquet").touch()
    (tmp_path / "stale.errors.parquet").touch()
    (tmp_path / "folder.parquet").mkdir()
    before = left(tmp_path)
    with pytest.raises(error, match=message):
        check_output(tmp_path / name, overwrite=False)
    assert left(tmp_path) == before


@pytest.mark.parametrize("name", ["there.parquet", "stale.parquet", "new.parquet"])
def test_overwriting_allows_what_is_there_and_touches_nothing_yet(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.parquet").write_bytes(b"old")
    (tmp_path / "stale.errors.parquet").write_bytes(b"old")
    check_output(tmp_path / name, overwrite=True)
    assert left(tmp_path) == ["stale.errors.parquet", "there.parquet"]
    assert (tmp_path / "there.parquet").read_bytes() == b"old"


def test_a_folder_of_parts_is_read_as_one_table(tmp_path: Path) -> None:
    write(tmp_path / "part-0000.parquet", count=2)
    write(tmp_path / "part-0001.parquet", count=4)
    table = read_table(tmp_path)
    assert table.paths == rows(2)[0] + rows(4)[0]
    assert table.embeddings.shape == (6, 3)


def test_parts_of_different_models_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "part-0.parquet")
    write(tmp_path / "part-1.parquet", width=4)
    with pytest.raises(TableError, match="come from different models or settings"):
        read_table(tmp_path)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    foreign, text, newer = tmp_path / "foreign.parquet", tmp_path / "text.parquet", tmp_path / "newer.parquet"
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1]}), foreign)
    text.write_text("embedding\n")
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"pauc": '{"format_version": 9}'}), newer)
    for path, message in [
        (foreign, "is Parquet, but no embedding table of pauc-hub"),
        (text, "cannot be read as Parquet"),
        (newer, "is of format 9, but this pauc-hub reads 1. Upgrade it."),
        (tmp_path / "gone.parquet", "cannot be read as Parquet"),
        (tmp_path / "empty", "holds no part-"),
    ]:
        with pytest.raises(TableError) as refusal:
            read_table(path)
        assert message in str(refusal.value)
        assert len(str(refusal.value).splitlines()) == 1
