"""Tables of each form: what is written comes back, in the same bytes however it came, whole or not
at all.
"""

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from pauc_hub.errors import PaucError, TableError
from pauc_hub.tables import outputs
from pauc_hub.tables.outputs import Dtype, files_of, open_output, pca_path
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.stored import read_batches, read_pca, read_provenance, read_table
from pauc_hub.tables.table import Provenance

PROVENANCE = Provenance(
    "pauc_resnet18.x", "ab" * 32, "backbone", {"crop_pct": 0.9}, "fp32", "/photos/été", "0.1.0"
)
ABOUT = {
    "format_version": 1,
    "model": "pauc_resnet18.x",
    "weights_sha256": "ab" * 32,
    "space": "backbone",
    "preprocessing": {"crop_pct": 0.9},
    "precision": "fp32",
    "root": "/photos/été",
    "package_version": "0.1.0",
}
FORMS = ["t.parquet", "t.npy", "t.safetensors"]
DTYPES: list[Dtype] = ["float32", "float16"]

Rows = tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int32]]


def rows(count: int, width: int = 3) -> Rows:
    embeddings = np.arange(count * width, dtype=np.float32).reshape(count, width) / np.float32(7)
    sizes = np.arange(count * 2, dtype=np.int32).reshape(count, 2)
    return [f"f/{i:03} ä.jpg" for i in range(count)], embeddings, sizes


def write(
    path: Path,
    count: int = 5,
    width: int = 3,
    provenance: Provenance = PROVENANCE,
    dtype: Dtype = "float32",
    pca: Pca | None = None,
    step: int = 1000,
) -> Path:
    names, embeddings, sizes = rows(count, width)
    with open_output(path, width, count, provenance, dtype, pca) as writer:
        for start in range(0, count, step):
            part = slice(start, start + step)
            writer.write(names[part], embeddings[part], sizes[part])
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def groups_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "BYTES_TOGETHER", 4 * 3 * 4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_was_written_comes_back(tmp_path: Path, form: str, dtype: Dtype, count: int) -> None:
    table = read_table(write(tmp_path / form, count=count, dtype=dtype))
    names, embeddings, sizes = rows(count)
    assert table.paths == names
    assert table.embeddings.dtype == dtype
    assert table.embeddings.shape == (count, 3)
    assert np.array_equal(table.embeddings, embeddings.astype(dtype))
    assert np.array_equal(table.sizes, sizes)
    assert table.sizes.dtype == np.int32
    assert table.provenance == read_provenance(tmp_path / form) == PROVENANCE


@pytest.mark.parametrize("form", FORMS)
def test_what_a_table_consists_of(tmp_path: Path, form: str) -> None:
    files = files_of(write(tmp_path / form))
    assert left(tmp_path) == sorted(path.name for path in files)
    assert files[0] == tmp_path / form
    assert [path.name for path in files[1:]] == ([] if form == "t.parquet" else ["t.index.parquet"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [None, 2])
@pytest.mark.usefixtures("groups_of_four")
def test_the_same_rows_give_the_same_files_however_they_come(
    tmp_path: Path, form: str, width: int | None
) -> None:
    """Also where they are projected: a product of matrices may depend, in its last bit, on the rows
    beside a row.
    """
    written, pca = set(), Pca.fit(rows(20)[1], width) if width else None
    for step in (1, 3, 4, 9, 23):
        (tmp_path / str(step)).mkdir()
        files = files_of(write(tmp_path / str(step) / form, count=23, step=step, pca=pca))
        written.add(tuple(path.read_bytes() for path in files))
    assert len(written) == 1
    assert read_table(tmp_path / "9" / form).paths == rows(23)[0]
    assert pca or np.array_equal(read_table(tmp_path / "9" / form).embeddings, rows(23)[1])


@pytest.mark.usefixtures("groups_of_four")
def test_row_groups_are_of_one_size(tmp_path: Path) -> None:
    parquet = pq.ParquetFile(write(tmp_path / "t.parquet", count=10, step=3))
    assert [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)] == [
        4,
        4,
        2,
    ]


@pytest.mark.parametrize(("dtype", "kind"), [("float32", pa.float32()), ("float16", pa.float16())])
def test_the_schema_is_the_documented_one(tmp_path: Path, dtype: Dtype, kind: pa.DataType) -> None:
    schema = pq.read_schema(write(tmp_path / "t.parquet", dtype=dtype))
    assert [(field.name, field.type) for field in schema] == [
        ("path", pa.string()),
        ("embedding", pa.list_(kind, 3)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
    ]
    assert json.loads(schema.metadata[b"pauc"]) == ABOUT


@pytest.mark.parametrize("form", ["t.npy", "t.safetensors"])
def test_the_index_holds_the_rest_row_for_row(tmp_path: Path, form: str) -> None:
    *_, path = files_of(write(tmp_path / form))
    index = pq.read_table(path)
    names, _, sizes = rows(5)
    unknown = [None] * len(names)
    assert index.to_pydict() == {
        "path": names,
        "width": [*sizes[:, 0]],
        "height": [*sizes[:, 1]],
        "sha256": unknown,
    }
    assert json.loads(index.schema.metadata[b"pauc"]) == ABOUT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 5])
def test_npy_is_mapped_by_numpy(tmp_path: Path, dtype: Dtype, count: int) -> None:
    mapped = np.load(write(tmp_path / "t.npy", count=count, dtype=dtype), mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == dtype
    assert np.array_equal(mapped, rows(count)[1].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 5])
def test_safetensors_is_read_by_its_own_library(tmp_path: Path, dtype: Dtype, count: int) -> None:
    path = write(tmp_path / "t.safetensors", count=count, dtype=dtype)
    (vectors,) = load_file(path).values()
    assert vectors.dtype == dtype
    assert np.array_equal(vectors, rows(count)[1].astype(dtype))
    with safe_open(path, "np") as file:
        assert list(file.keys()) == ["embedding"]
        assert json.loads(file.metadata()["pauc"]) == ABOUT


@pytest.mark.parametrize("form", ["t.npy", "t.safetensors"])
def test_flat_embeddings_are_mapped_and_not_read(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / form)
    assert isinstance(read_table(path).embeddings, np.memmap)
    assert all(isinstance(batch.embeddings, np.memmap) for batch in read_batches(path))
    assert path.stat().st_size % 4 == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 3, 4, 100])
@pytest.mark.usefixtures("groups_of_four")
def test_batches_are_the_table_in_stretches(tmp_path: Path, form: str, step: int) -> None:
    batches = list(read_batches(write(tmp_path / form, count=10), step))
    assert max(len(batch.paths) for batch in batches) <= step
    assert [path for batch in batches for path in batch.paths] == rows(10)[0]
    assert np.array_equal(np.concatenate([batch.embeddings for batch in batches]), rows(10)[1])
    assert np.array_equal(np.concatenate([batch.sizes for batch in batches]), rows(10)[2])
    assert {batch.provenance.root for batch in batches} == {"/photos/été"}


LARGEST = np.float32(65519.99)  # rounds to 65504, the largest of float16; 65520 rounds to infinity


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_too_large_for_float16_is_one_line_and_leaves_nothing(
    tmp_path: Path, form: str, sign: int
) -> None:
    names, embeddings, sizes = rows(5)
    embeddings[3, 1] = sign * 65520
    with (
        pytest.raises(
            PaucError,
            match=rf"^the embedding of 'f/003 ä\.jpg' holds {'-' * (sign < 0)}65520, and float16",
        ),
        open_output(tmp_path / form, 3, 5, PROVENANCE, "float16") as writer,
    ):
        writer.write(names, embeddings, sizes)
    assert left(tmp_path) == []


def test_float16_rounds_to_the_nearest_and_keeps_what_is_no_number(tmp_path: Path) -> None:
    numbers = np.array(
        [[LARGEST, -LARGEST, 1 + 2**-11, 1 + 3 * 2**-11, 2**-24, 2**-26, np.nan, np.inf]],
        np.float32,
    )
    with open_output(tmp_path / "t.npy", 8, 1, PROVENANCE, "float16") as writer:
        writer.write(["a"], numbers, rows(1)[2])
    expected = [[65504, -65504, 1, 1 + 2**-9, 2**-24, 0, np.nan, np.inf]]  # ties go to the even one
    assert np.array_equal(
        np.load(tmp_path / "t.npy"), np.array(expected, np.float16), equal_nan=True
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("groups_of_four")
def test_a_projected_table_lies_beside_its_projection(tmp_path: Path, form: str) -> None:
    names, embeddings, _ = rows(10)
    pca = Pca.fit(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), 2)
    path = write(tmp_path / form, count=10, step=3, pca=pca)
    assert left(tmp_path) == sorted(
        each.name for each in (*files_of(path), tmp_path / "t.pca.safetensors")
    )
    table, found = read_table(path), read_pca(path)
    assert table.provenance.pca == pca.sha256
    assert table.paths == names
    assert np.allclose(table.embeddings, (embeddings - pca.mean) @ pca.components.T, atol=1e-5)
    assert found
    assert np.array_equal(found.components, pca.components)


def test_a_table_without_projection_has_none_and_says_nothing_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    assert read_pca(path) is None
    assert b'"pca"' not in pq.read_schema(path).metadata[b"pauc"]


def test_another_projection_beside_a_table_is_refused(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    path = write(tmp_path / "t.parquet", pca=Pca.fit(draws, 2))
    Pca.fit(draws + 1, 2).save(pca_path(path))
    with pytest.raises(
        TableError, match=r"t\.pca\.safetensors' is not the PCA that '.*t\.parquet' was made with"
    ):
        read_pca(path)
    pca_path(path).unlink()
    with pytest.raises(TableError, match=r"t\.pca\.safetensors' cannot be read as a PCA"):
        read_pca(path)


def write_and_stop(path: Path, error: type[BaseException]) -> None:
    pca = Pca.fit(np.eye(3, dtype=np.float32), 2)
    with open_output(path, 3, 5, PROVENANCE, pca=pca) as table:
        table.write(*rows(5))
        raise error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_nothing_is_left_and_nothing_is_lost_when_writing_stops(
    tmp_path: Path, form: str, error: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / form
    if before:
        path.write_bytes(before)
    with pytest.raises(error):
        write_and_stop(path, error)
    assert left(tmp_path) == ([form] if before else [])
    assert not before or path.read_bytes() == before


FULL = (
    r"^'.*t\.[a-z]+' could not be written \(No space left on device\), "
    r"and nothing of it is left\. Make room, or name"
)


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    monkeypatch.setattr(outputs, "BYTES_TOGETHER", 1)
    with pytest.raises(PaucError, match=FULL):
        write(tmp_path / form, count=9, width=4096)
    assert left(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("healthy", [0, 1, 2])
def test_a_disk_that_fills_at_the_end_leaves_nothing(
    tmp_path: Path, form: str, healthy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it fills after some of the files are safe: none may appear before all are."""
    left_over = [healthy]

    def fail(_: int) -> None:
        left_over[0] -= 1
        if left_over[0] < 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    pca = Pca.fit(np.eye(3, dtype=np.float32), 2)
    with pytest.raises(PaucError, match=FULL):
        write(tmp_path / form, pca=pca)
    assert left(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_fewer_rows_than_promised_is_none(tmp_path: Path, form: str) -> None:
    with (
        pytest.raises(ValueError, match=r"5 rows were written to '.*', and not 6"),
        open_output(tmp_path / form, 3, 6, PROVENANCE) as table,
    ):
        table.write(*rows(5))
    assert left(tmp_path) == []


@pytest.mark.parametrize(("count", "width"), [(5, 1), (5, 4), (4, 3)])
def test_rows_of_another_shape_are_a_mistake_of_the_caller(
    tmp_path: Path, count: int, width: int
) -> None:
    names, _, sizes = rows(5)
    with (
        pytest.raises(ValueError, match="5 names"),
        open_output(tmp_path / "t.npy", 3, 5, PROVENANCE) as table,
    ):
        table.write(names, np.ones((count, width), np.float32), sizes)
