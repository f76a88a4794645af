"""Exact nearest rows by hand, against a plain float64 reference, and whatever the blocks."""

import numpy as np
import pytest

from pauc_hub.errors import TableError
from pauc_hub.retrieval.cosine import RowBlock, Vectors, block_rows, nearest


def blocks(rows: Vectors, size: int) -> list[RowBlock]:
    names = [f"{i}.jpg" for i in range(len(rows))]
    return [RowBlock(i, names[i : i + size], rows[i : i + size]) for i in range(0, len(rows), size)]


def drawn(rows: int, width: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).standard_normal((rows, width), dtype=np.float32)


def test_the_nearest_come_first_by_hand() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0], [5.0, 0.0]], np.float32)
    first, second = nearest(blocks(rows, 4), np.array([[2.0, 0.0], [0.0, 1.0]], np.float32), 3)
    assert first.rows.tolist() == [3, 0, 1]
    assert first.scores.tolist() == pytest.approx([1, 3 / 5, 0])
    assert first.paths == ["3.jpg", "0.jpg", "1.jpg"]
    assert second.rows.tolist() == [1, 0, 2]
    assert second.scores.tolist() == pytest.approx([1, 4 / 5, 0])


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_it_equals_a_plain_loop_whatever_the_blocks(size: int, k: int) -> None:
    rows, queries = drawn(200, 24, seed=0), drawn(9, 24, seed=1)
    for query, found in zip(
        queries.astype(float), nearest(blocks(rows, size), queries, k), strict=True
    ):
        cosines = [
            query @ row / np.linalg.norm(query) / np.linalg.norm(row) for row in rows.astype(float)
        ]
        expected = sorted(range(200), key=lambda i: -cosines[i])[:k]
        assert found.rows.tolist() == expected
        assert found.scores.tolist() == pytest.approx([cosines[i] for i in expected], abs=1e-7)
        assert found.paths == [f"{i}.jpg" for i in expected]


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_equally_near_rows_come_in_the_order_of_the_table(size: int) -> None:
    """The same vector in other places of a block gives a float32 product of other last bits."""
    rows = drawn(300, 33, seed=2)
    rows[::2] = rows[0]
    (found,) = nearest(blocks(rows, size), rows[:1] + np.float32(0.1) * rows[1:2], 40)
    assert found.rows.tolist() == list(range(0, 80, 2))
    assert len(set(found.scores.tolist())) == 1


def test_lengths_and_16_bits_do_not_matter() -> None:
    rows, queries = drawn(60, 8, seed=3).astype(np.float16), drawn(4, 8, seed=4)
    longer = rows.astype(np.float32) * np.linspace(1, 50, 60, dtype=np.float32)[:, None]
    one = nearest(blocks(rows, 16), queries, 60)
    other = nearest(blocks(longer, 60), queries * 7, 60)
    for a, b in zip(one, other, strict=True):
        assert a.rows.tolist() == b.rows.tolist()
        assert a.scores.tolist() == pytest.approx(b.scores.tolist(), abs=1e-6)


def test_a_row_that_is_left_out_is_no_answer_to_its_query_alone() -> None:
    rows = drawn(30, 6, seed=5)
    found = nearest(blocks(rows, 8), rows[[12, 12, 29]], 30, [12, None, 29])
    assert [answer.rows[0] == own for answer, own in zip(found, (12, 12, 29), strict=True)] == [
        False,
        True,
        False,
    ]
    assert [len(answer.rows) for answer in found] == [29, 30, 29]
    assert 12 not in found[0].rows
    assert set(found[2].rows.tolist()) == set(range(29))


def test_zeros_are_like_nothing() -> None:
    rows = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], np.float32)
    (found,) = nearest(blocks(rows, 2), np.array([[1.0, 0.0]], np.float32), 3)
    assert (found.rows.tolist(), found.scores.tolist()) == ([2, 0, 1], [1, 0, -1])
    (found,) = nearest(blocks(rows, 2), np.zeros((1, 2), np.float32), 3)
    assert (found.rows.tolist(), found.scores.tolist()) == ([0, 1, 2], [0, 0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_by_name(value: float) -> None:
    rows = drawn(9, 4, seed=6)
    rows[7, 2] = value
    with pytest.raises(
        TableError,
        match=r"^row 7 of the table, '7\.jpg', holds numbers that are not finite\. Its",
    ):
        nearest(blocks(rows, 4), rows[:2], 2)


@pytest.mark.parametrize(("width", "queries"), [(512, 1), (2048, 100), (8, 5000), (1 << 25, 1)])
def test_blocks_are_bounded_by_embeddings_and_by_scores(width: int, queries: int) -> None:
    rows = block_rows(width, queries)
    assert rows >= 1
    assert rows == 1 or rows * max(width, queries) <= 1 << 23
