"""Searching tables: exact or by an index that is built once, kept, and built again when the table
has changed.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pauc_hub.errors import TableError, UsageError
from pauc_hub.retrieval import faiss_index, neighbors
from pauc_hub.retrieval.cosine import Neighbors
from pauc_hub.retrieval.faiss_index import index_path, list_count
from pauc_hub.retrieval.neighbors import find_neighbors
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

ABOUT = Provenance("m", "0" * 64, "backbone", {}, "fp32", "/photos", "0")
N, D = 400, 12


def drawn(seed: int, rows: int = N) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, D), dtype=np.float32)


def write(path: Path, vectors: npt.NDArray[np.float32]) -> Path:
    with open_output(path, D, len(vectors), ABOUT) as table:
        table.write(
            [f"{i}.jpg" for i in range(len(vectors))], vectors, np.ones((len(vectors), 2), np.int32)
        )
    return path


@pytest.fixture(params=["t.parquet", "t.npy", "t.safetensors"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / str(request.param), drawn(0))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of N rows are large enough for an index."""
    monkeypatch.setattr(neighbors, "INDEX_ROWS", N)
    monkeypatch.setattr(neighbors, "FLAT_INDEX_ROWS", N)


def assert_as_good(
    found: Neighbors,
    truth: Neighbors,
    query: npt.NDArray[np.float32],
    rows: npt.NDArray[np.float32] | None = None,
) -> None:
    """Every list is looked at, so the index differs in what 16 bits cannot tell apart alone."""
    kept = (drawn(0) if rows is None else rows)[found.rows]
    cosines = kept @ query / np.linalg.norm(kept, axis=1) / np.linalg.norm(query)
    assert len(set(found.rows.tolist())) == len(truth.rows)
    assert found.scores.tolist() == pytest.approx(truth.scores.tolist(), abs=5e-4)
    assert found.scores.tolist() == pytest.approx(cosines.tolist(), abs=5e-4)
    assert found.paths == [f"{row}.jpg" for row in found.rows]


def left(table: Path) -> set[str]:
    return {path.name for path in table.parent.iterdir()} - {
        "t.parquet",
        "t.npy",
        "t.safetensors",
        "t.index.parquet",
    }


def test_a_small_table_is_searched_exactly(table: Path) -> None:
    rows, queries = drawn(0), drawn(1, rows=3)
    found = find_neighbors(table, queries, 5)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for query, answer in zip(queries, found.neighbors, strict=True):
        expected = np.argsort(-(units @ query))[:5]
        assert answer.rows.tolist() == expected.tolist()
        assert answer.paths == [f"{i}.jpg" for i in expected]
    assert (found.method, found.note) == ("exact", None)
    assert left(table) == set()


@pytest.mark.usefixtures("large")
def test_a_large_table_gets_an_index_that_finds_the_same(table: Path) -> None:
    queries = drawn(1, rows=20)
    truth, found = find_neighbors(table, queries, 5, exact=True), find_neighbors(table, queries, 5)
    assert (truth.method, found.method, found.note) == ("exact", "index", None)
    assert left(table) == {"t.faiss"}
    for query, exact, indexed in zip(queries, truth.neighbors, found.neighbors, strict=True):
        assert_as_good(indexed, exact, query)


@pytest.mark.parametrize(("name", "method"), [("t.parquet", "index"), ("t.npy", "exact")])
def test_what_is_mapped_is_compared_without_an_index_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    monkeypatch.setattr(neighbors, "INDEX_ROWS", N)
    assert find_neighbors(write(tmp_path / name, drawn(0)), drawn(1), 5).method == method


@pytest.mark.usefixtures("large")
def test_an_index_leaves_the_query_itself_out(table: Path) -> None:
    queries, own = drawn(0)[[7, 7, 399]], [7, None, 399]
    answers = find_neighbors(table, queries, 5, left_out=own)
    found, method = answers.neighbors, answers.method
    truth = find_neighbors(table, queries, 5, left_out=own, exact=True).neighbors
    for query, exact, indexed in zip(queries, truth, found, strict=True):
        assert_as_good(indexed, exact, query)
    assert method == "index"
    assert [answer.rows[0] for answer in found][1] == 7
    assert 7 not in found[0].rows
    assert 399 not in found[2].rows


@pytest.mark.usefixtures("large")
def test_an_index_is_built_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_neighbors(table, drawn(1), 5)
    monkeypatch.setattr(faiss_index, "build_index", lambda *_: pytest.fail("built again"))
    again = find_neighbors(table, drawn(1), 5)
    assert again.method == "index"
    assert [a.paths for a in first.neighbors] == [b.paths for b in again.neighbors]


@pytest.mark.usefixtures("large")
def test_a_changed_table_gets_another_index(table: Path) -> None:
    """Of the same shape, and so of the same size in a flat form."""
    find_neighbors(table, drawn(1), 5)
    old = index_path(table).read_bytes()
    write(table, drawn(2))
    found = find_neighbors(table, drawn(1), 5)
    truth = find_neighbors(table, drawn(1), 5, exact=True)
    assert found.method == "index"
    assert index_path(table).read_bytes() != old
    for query, exact, indexed in zip(drawn(1), truth.neighbors, found.neighbors, strict=True):
        assert_as_good(indexed, exact, query, drawn(2))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("damage", ["cut short", "empty", "of another table", "note alone"])
def test_an_index_that_is_no_good_is_built_again(tmp_path: Path, damage: str) -> None:
    table = write(tmp_path / "t.parquet", drawn(0))
    find_neighbors(table, drawn(1), 5)
    whole = index_path(table).read_bytes()
    if damage == "of another table":
        other = write(tmp_path / "other.parquet", drawn(3))
        find_neighbors(other, drawn(1), 5)
        index_path(other).replace(index_path(table))
    else:
        kept = {
            "cut short": whole[:-100],
            "empty": b"",
            "note alone": whole[-faiss_index.NOTE_BYTES :],
        }[damage]
        index_path(table).write_bytes(kept)
    assert find_neighbors(table, drawn(1), 5).method == "index"
    assert index_path(table).read_bytes() == whole


@pytest.mark.usefixtures("large")
def test_without_faiss_every_row_is_compared_and_the_extra_is_named(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_index, "is_installed", lambda: False)
    found = find_neighbors(table, drawn(1), 5)
    assert found.method == "exact"
    assert found.note == (
        "an index would make searching so large a table faster: `pip install 'pauc-hub[faiss-cpu]'`"
    )
    assert find_neighbors(table, drawn(1), 5, exact=True).note is None
    assert left(table) == set()


@pytest.mark.usefixtures("large")
def test_where_nothing_can_be_written_every_row_is_compared(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = find_neighbors(table, drawn(1), 5)
    assert found.method == "exact"
    assert found.note == (
        f"an index would make searching faster, but '{index_path(table)}' cannot be written: "
        "its folder is read-only"
    )


@pytest.mark.usefixtures("large")
def test_an_index_is_not_asked_for_more_than_it_was_measured_with(table: Path) -> None:
    assert find_neighbors(table, drawn(1), faiss_index.MOST_NEIGHBORS + 1).method == "exact"
    assert left(table) == set()


@pytest.mark.usefixtures("large")
def test_what_the_index_cannot_answer_in_full_is_searched_exactly(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One list of 32 holds about 12 rows."""
    monkeypatch.setattr(faiss_index, "PROBES", 1)
    assert find_neighbors(table, drawn(1), 1).method == "index"
    found = find_neighbors(table, drawn(1), 90)
    assert found.method == "exact"
    assert {len(answer.rows) for answer in found.neighbors} == {90}


@pytest.mark.usefixtures("large")
def test_the_lists_are_learned_from_rows_all_over_the_table(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the sample suffices here; whatever the blocks, rows 0, 4, 8, … are looked at."""
    monkeypatch.setattr(faiss_index, "SAMPLE", 3)
    find_neighbors(table, drawn(1), 5)
    one = index_path(table).read_bytes()
    index_path(table).unlink()
    monkeypatch.setattr("pauc_hub.retrieval.cosine.BLOCK_NUMBERS", 7 * D)
    find_neighbors(table, drawn(1), 5)
    assert index_path(table).read_bytes() == one


@pytest.mark.parametrize(("k", "own"), [(0, None), (N + 1, None), (N, 3)])
def test_more_neighbours_than_there_are_rows_are_refused(
    table: Path, k: int, own: int | None
) -> None:
    rows = N if own is None else N - 1
    with pytest.raises(
        UsageError, match=f"^k={k} is not between 1 and {rows}, the images to search among in "
    ):
        find_neighbors(table, drawn(1, rows=1), k, left_out=[own])


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", drawn(0, rows=0))
    with pytest.raises(UsageError, match=r"^'.*t\.parquet' holds no images to search among\.$"):
        find_neighbors(table, drawn(1), 1)


def test_queries_of_another_width_are_refused(table: Path) -> None:
    with pytest.raises(
        TableError, match=r"has embeddings of 12 numbers, and the queries have 5\.$"
    ):
        find_neighbors(table, drawn(1)[:, :5], 1)


@pytest.mark.parametrize(
    ("rows", "lists"), [(1, 2), (400, 32), (60_000, 512), (1_000_000, 2048), (10_000_000, 8192)]
)
def test_lists_grow_with_the_square_root(rows: int, lists: int) -> None:
    assert list_count(rows) == lists
