"""Tables of several parts, and what is no table: refused in one line that says why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pauc_hub.errors import TableError
from pauc_hub.tables.outputs import Dtype, files_of, open_output
from pauc_hub.tables.stored import read_batches, read_provenance, read_table
from pauc_hub.tables.table import Provenance, Unreadable, errors_path, write_errors

PROVENANCE = Provenance(
    "pauc_resnet18.x", "ab" * 32, "backbone", {"crop_pct": 0.9}, "fp32", "/photos", "0.1.0"
)


def write(
    path: Path, names: str, width: int = 3, dtype: Dtype = "float32", **different: Any
) -> Path:
    """A table of images with names of one letter, whose embeddings are its code, that plus 0.5,
    plus 1 and so on.
    """
    path.parent.mkdir(exist_ok=True)
    embeddings = np.array(
        [[ord(name) + column / 2 for column in range(width)] for name in names], np.float32
    )
    provenance = dataclasses.replace(PROVENANCE, **different)
    with open_output(path, width, len(names), provenance, dtype) as writer:
        writer.write([*names], embeddings.reshape(-1, width), np.ones((len(names), 2), np.int32))
    return path


def with_metadata(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({"pauc": PROVENANCE.to_json()})


def refusal(path: Path) -> str:
    """What all three readers say alike."""
    said = set()
    for read in (read_table, lambda path: list(read_batches(path)), read_provenance):
        with pytest.raises(TableError) as caught:
            read(path)
        said.add(str(caught.value))
    (message,) = said
    assert len(message.splitlines()) == 1
    return message


def test_a_folder_of_parts_is_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "photos.parquet"
    for part, names in [(1, "cde"), (0, "ab"), (10, "g"), (2, "")]:
        write(folder / f"part-{part:05}.parquet", names)
    table = read_table(folder)
    assert table.paths == [*"abcdeg"]
    assert [row.tolist() for row in table.embeddings] == [
        [ord(name) + i / 2 for i in range(3)] for name in "abcdeg"
    ]
    assert table.provenance == read_provenance(folder) == PROVENANCE
    assert [path for batch in read_batches(folder, 2) for path in batch.paths] == [*"abcdeg"]


def test_only_parts_are_read_in_a_folder(tmp_path: Path) -> None:
    """Errors belong in a folder of their own, and whatever is hidden is not finished."""
    folder = tmp_path / "photos.parquet"
    write(folder / "part-00000.parquet", "ab")
    write(folder / ".part-00001.parquet.1a2b3c4d", "cd")
    write(folder / "other.parquet", "ef")
    errors = errors_path(folder / "part-00000.parquet")
    errors.parent.mkdir()
    write_errors(errors, [Unreadable("x", "io", "y")])
    assert read_table(folder).paths == [*"ab"]


DIFFERENCES: list[dict[str, Any]] = [
    {"width": 4},
    {"dtype": "float16"},
    {"model": "other"},
    {"weights_sha256": "cd" * 32},
    {"space": "projection"},
    {"preprocessing": {"crop_pct": 1.0}},
    {"pca": "ef" * 32},
    {"root": "/elsewhere"},
]


@pytest.mark.parametrize("different", DIFFERENCES, ids=lambda different: next(iter(different)))
def test_parts_of_different_tables_do_not_mix(tmp_path: Path, different: dict[str, Any]) -> None:
    folder = tmp_path / "photos.parquet"
    write(folder / "part-00000.parquet", "a")
    write(folder / "part-00001.parquet", "b")
    write(folder / "part-00002.parquet", "c", **different)
    assert refusal(folder) == (
        f"'{folder}' holds parts of different tables: part-00002.parquet was made by another "
        "model or otherwise than "
        "part-00000.parquet."
    )


def test_more_parts_than_a_process_may_open_are_no_trouble(tmp_path: Path) -> None:
    import resource

    folder, limits = tmp_path / "photos.parquet", resource.getrlimit(resource.RLIMIT_NOFILE)
    for part in range(70):
        write(folder / f"part-{part:05}.parquet", "a")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        assert (
            len(read_table(folder).paths)
            == sum(len(batch.paths) for batch in read_batches(folder))
            == 70
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    text = tmp_path / "text.parquet"
    newer = tmp_path / "newer.parquet"
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1]}), foreign)
    text.write_text("embedding\n")
    pq.write_table(
        pa.table({"a": [1]}).replace_schema_metadata({"pauc": '{"format_version": 9}'}), newer
    )
    write(tmp_path / "t.npy", "ab")
    for name, message in [
        ("foreign.parquet", "'{}' is no embedding table of pauc-hub."),
        ("text.parquet", "'{}' cannot be read as Parquet (Parquet "),
        ("newer.parquet", "'{}' is of format 9, but this pauc-hub reads 1. Upgrade it."),
        ("gone.parquet", "'{}' cannot be read (No such file or directory)."),
        ("gone.npy", "'{}' cannot be read (No such file or directory)."),
        ("gone.safetensors", "'{}' cannot be read (No such file or directory)."),
        ("empty", "'{}' holds no part-*.parquet."),
        (
            "t.index.parquet",
            "'{}' holds no embeddings. Name the .npy or .safetensors file that it lies beside.",
        ),
    ]:
        assert refusal(tmp_path / name).startswith(message.format(tmp_path / name))


@pytest.mark.parametrize(
    "metadata", ["[]", "null", "7", '{"model": "m"}', '{"format_version": 1}', "{", ""]
)
def test_metadata_of_another_kind_is_no_table(tmp_path: Path, metadata: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"embedding": [[1.0]]}).replace_schema_metadata({"pauc": metadata}), path
    )
    assert refusal(path) == f"'{path}' is no embedding table of pauc-hub."


def test_embeddings_of_no_fixed_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(
        with_metadata(pa.table({"path": ["a"], "width": [1], "height": [1], "embedding": [[1.0]]})),
        path,
    )
    assert refusal(path) == (
        f"'{path}' holds embeddings as list<element: double>, and not as float32 or float16 of "
        "one length."
    )


@pytest.mark.parametrize("name", ["t.parquet", "t.npy"])
@pytest.mark.parametrize("column", ["path", "width", "height"])
def test_a_column_that_is_not_there_is_missed(tmp_path: Path, name: str, column: str) -> None:
    *_, path = files_of(write(tmp_path / name, "abc"))
    pq.write_table(pq.read_table(path).drop_columns(column), path)
    assert refusal(tmp_path / name) == f"'{path}' lacks a column path, width or height."


@pytest.mark.parametrize("cut", [1, 4, 8, 40])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "t.parquet", "abc")
    path.write_bytes(path.read_bytes()[:-cut])
    assert refusal(path).startswith(f"'{path}' cannot be read")


@pytest.mark.parametrize("name", ["t.npy", "t.safetensors"])
def test_a_flat_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "abc")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(TableError, match=r"is damaged, or holds no embeddings\.$"):
            read_provenance(path)


SAFETENSORS_HEADERS = [
    b"\xff" * 8,
    b"\x02" + bytes(7) + b"[]",
    b"\x02" + bytes(7) + b"{}",
    json.dumps({"embedding": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}).encode(),
    json.dumps(
        {"__metadata__": {}, "embedding": {"dtype": "I64", "shape": [1, 1], "data_offsets": [0, 8]}}
    ).encode(),
]


@pytest.mark.parametrize("data", SAFETENSORS_HEADERS)
def test_other_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "t.safetensors", "abc")
    path.write_bytes(
        (len(data).to_bytes(8, "little") if data.startswith(b'{"') else b"") + data + bytes(8)
    )
    assert refusal(path) == f"'{path}' is damaged, or holds no embeddings."


@pytest.mark.parametrize(
    "array", [np.ones(3, np.float32), np.ones((3, 3)), np.ones((3, 3), np.int32)]
)
def test_arrays_that_are_no_embeddings_are_refused(
    tmp_path: Path, array: np.ndarray[Any, Any]
) -> None:
    path = write(tmp_path / "t.npy", "abc")
    np.save(path, array)
    assert refusal(path) == (
        f"'{path}' holds {array.dtype} of shape {array.shape}, and no rows of float32 or float16."
    )


@pytest.mark.parametrize(
    "text", ["{", "04", "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 3), }"]
)
def test_an_npy_whose_header_is_another_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "t.npy", "abc")
    data = path.read_bytes()
    path.write_bytes(data[:10] + text.ljust(117).encode() + b"\n" + data[128:])
    assert refusal(path) == f"'{path}' is damaged, or holds no embeddings."


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "t.npy", "abc")
    np.save(path, np.array([[{}]]), allow_pickle=True)
    assert refusal(path) == f"'{path}' is damaged, or holds no embeddings."


def test_files_of_different_tables_do_not_mix(tmp_path: Path) -> None:
    numbers = write(tmp_path / "t.npy", "abc").read_bytes()
    path = write(tmp_path / "t.npy", "ab")
    path.write_bytes(numbers)
    assert (
        refusal(path) == f"'{path}' and '{tmp_path / 't.index.parquet'}' are of different tables."
    )
    tensors = write(tmp_path / "t.safetensors", "abc", model="other").read_bytes()
    path = write(tmp_path / "t.safetensors", "abc")
    path.write_bytes(tensors)
    assert (
        refusal(path) == f"'{path}' and '{tmp_path / 't.index.parquet'}' are of different tables."
    )


@pytest.mark.parametrize("name", ["t.npy", "t.safetensors"])
def test_embeddings_without_their_index_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "abc")
    (tmp_path / "t.index.parquet").unlink()
    assert (
        refusal(path)
        == f"'{tmp_path / 't.index.parquet'}' cannot be read (No such file or directory)."
    )
