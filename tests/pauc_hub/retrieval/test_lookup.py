"""Single rows out of tables of every form, whatever their row groups."""

from pathlib import Path

import numpy as np
import pytest

from pauc_hub.errors import TableError
from pauc_hub.retrieval.lookup import find_rows, read_paths, read_vectors
from pauc_hub.tables import outputs
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.stored import Stored, open_table
from pauc_hub.tables.table import Provenance

ABOUT = Provenance("m", "0" * 64, "backbone", {}, "fp32", "/photos", "0")
N, D = 50, 4
NAMES = [f"{i:02d}.jpg" for i in range(N)]
VECTORS = np.arange(N * D, dtype=np.float32).reshape(N, D)
FORMS = ("table.parquet", "table.npy", "table.safetensors", "parts")


def write(path: Path, rows: slice = slice(0, N), dtype: outputs.Dtype = "float32") -> None:
    names = NAMES[rows]
    with open_output(path, D, len(names), ABOUT, dtype) as table:
        table.write(names, VECTORS[rows], np.ones((len(names), 2), np.int32))


@pytest.fixture(params=FORMS)
def table(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stored:
    """Row groups of seven rows; parts of 20, none and 30."""
    monkeypatch.setattr(outputs, "BYTES_TOGETHER", 7 * 4 * D)
    path = tmp_path / str(request.param)
    if request.param == "parts":
        path.mkdir()
        for number, rows in enumerate([slice(0, 20), slice(0, 0), slice(20, N)]):
            write(path / f"part-{number}.parquet", rows)
    else:
        write(path)
    return open_table(path)


def test_names_are_found_where_they_stand(table: Stored) -> None:
    assert find_rows(table, ["49.jpg", "00.jpg", "20.jpg", "gone.jpg", "20.jpg"]) == {
        "49.jpg": 49,
        "00.jpg": 0,
        "20.jpg": 20,
    }
    assert find_rows(table, []) == {}


def test_rows_are_read_in_the_order_asked_for(table: Stored) -> None:
    rows = [49, 0, 6, 7, 19, 20, 49, 21]
    assert read_paths(table, rows) == [NAMES[row] for row in rows]
    read = read_vectors(table, rows)
    assert read.dtype == np.float32
    assert np.array_equal(read, VECTORS[rows])
    assert (read_paths(table, []), read_vectors(table, []).shape) == ([], (0, D))


@pytest.mark.parametrize("name", FORMS[:3])
def test_16_bits_are_read_as_float32(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, dtype="float16")
    read = read_vectors(open_table(tmp_path / name), [3, 1])
    assert read.dtype == np.float32
    assert np.array_equal(read, VECTORS[[3, 1]])


def test_of_equal_names_the_first_is_found(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "parts").mkdir(exist_ok=True)
        write(tmp_path / "parts" / f"part-{number}.parquet", slice(0, 20))
    assert find_rows(open_table(tmp_path / "parts"), ["03.jpg"]) == {"03.jpg": 3}


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet")
    stored = open_table(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(TableError, match=r"^'.*t\.parquet' cannot be read as Parquet \(.*\)\.$"):
        find_rows(stored, ["a"])
