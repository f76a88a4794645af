"""Images in Parquet: row by row, whatever is wrong with some, and the right column or none."""

import io
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pauc_hub.errors import NoImages, PaucError, UsageError
from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.sources import Entry, Source, open_source
from pauc_hub.sources.rows import READ_BUFFER, ROWS_TOGETHER, image_column, open_rows
from pauc_hub.sources.stored import File

WriteRows = Callable[..., Path]
Outcomes = Callable[[Iterable[Entry]], list[tuple[str, str]]]
OneOrder = Callable[[Source], list[str]]

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_one_file_gives_its_rows_with_their_numbers_and_paths(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes, require_one_order: OneOrder
) -> None:
    source = open_source(write_rows(tmp_path / "x.parquet", 10))
    expected = [(f"x.parquet/{row:09d}/{row + 1}.png", f"{row + 1} px") for row in range(10)]
    assert outcomes(source.entries()) == expected
    assert require_one_order(source) == [name for name, _ in expected]
    assert source.listing().images == 10
    assert source.root == str(tmp_path / "x.parquet")


def test_more_rows_than_are_read_together(
    tmp_path: Path, write_rows: WriteRows, require_one_order: OneOrder
) -> None:
    count = 2 * ROWS_TOGETHER + 3
    assert (
        len(require_one_order(open_source(write_rows(tmp_path / "x.parquet", count, group=count))))
        == count
    )


def test_a_folder_of_files_is_one_source_and_shares_are_whole_groups(
    tmp_path: Path, write_rows: WriteRows, require_one_order: OneOrder
) -> None:
    for name, count in (("b", 7), ("a", 5), ("sub/c", 1)):
        write_rows(tmp_path / f"{name}.parquet", count)
    source = open_source(tmp_path)
    assert source.listing().images == 13
    assert [name[:-6] for name in require_one_order(source)] == [
        f"{file}.parquet/{row:09d}"
        for file, count in (("a", 5), ("b", 7), ("sub/c", 1))
        for row in range(count)
    ]
    parts = [[entry.name[:19] for entry in source.share(rank, 3).entries()] for rank in range(3)]
    assert [(part[0], len(part)) for part in parts] == [
        ("a.parquet/000000000", 4),
        ("a.parquet/000000004", 5),
        ("b.parquet/000000004", 4),
    ]


def test_the_listing_changes_with_names_sizes_and_shares(
    tmp_path: Path, write_rows: WriteRows
) -> None:
    write_rows(tmp_path / "a.parquet", 8)
    seen = [open_source(tmp_path).listing().sha256]
    assert open_source(tmp_path).listing().sha256 == seen[0]
    seen += [open_source(tmp_path).share(rank, 2).listing().sha256 for rank in range(2)]
    write_rows(tmp_path / "a.parquet", 8, first=100)
    seen.append(open_source(tmp_path).listing().sha256)
    write_rows(tmp_path / "b.parquet", 1)
    seen.append(open_source(tmp_path).listing().sha256)
    assert len(set(seen)) == 5


def test_rows_without_an_image_are_entries(tmp_path: Path, outcomes: Outcomes) -> None:
    values: list[Any] = [{"bytes": None, "path": "/data/a.png"}, None, {"bytes": b"", "path": None}]
    values += [{"bytes": b"text", "path": "b.png"}]
    pq.write_table(pa.table({"image": pa.array(values, STRUCT)}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert outcomes(source.entries()) == [
        ("x.parquet/000000000/data/a.png", "empty"),
        ("x.parquet/000000001", "empty"),
        ("x.parquet/000000002", "empty"),
        ("x.parquet/000000003/b.png", "not_an_image"),
    ]
    with pytest.raises(UnreadableImage, match=r"^the row holds no bytes, only a path$"):
        next(source.entries()).open()


def test_paths_that_are_not_utf8_are_spelt_out(tmp_path: Path, outcomes: Outcomes) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 5], np.int32)), pa.py_buffer(b"caf\xe9s")]
    )
    column = pa.StructArray.from_arrays([pa.array([b""]), text], fields=list(STRUCT))
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet")
    assert outcomes(open_source(tmp_path).entries()) == [("x.parquet/000000000/caf\\xe9s", "empty")]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_plain_bytes_of_any_layout_are_read(
    tmp_path: Path, outcomes: Outcomes, kind: pa.DataType
) -> None:
    pq.write_table(pa.table({"img": pa.array([b"text", None], kind)}), tmp_path / "x.parquet")
    assert outcomes(open_source(tmp_path).entries()) == [
        ("x.parquet/000000000", "not_an_image"),
        ("x.parquet/000000001", "empty"),
    ]


def test_a_group_damaged_in_the_middle_costs_its_rows_and_no_others(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes, require_one_order: OneOrder
) -> None:
    path = write_rows(tmp_path / "x.parquet", 12)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    source = open_source(path)
    assert [found for _, found in outcomes(source.entries())] == [
        *(f"{width} px" for width in (1, 2, 3, 4)),
        *(["damaged"] * 4),
        *(f"{width} px" for width in (9, 10, 11, 12)),
    ]
    assert len(require_one_order(source)) == source.listing().images == 12
    with pytest.raises(UnreadableImage, match=r"^the row cannot be read: \S"):
        next(source.entries(4)).open()


def test_a_group_damaged_towards_its_end_gives_what_comes_before(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes, require_one_order: OneOrder
) -> None:
    count = 3 * ROWS_TOGETHER
    table = pq.read_table(write_rows(tmp_path / "x.parquet", count))
    pq.write_table(
        table, tmp_path / "x.parquet", write_batch_size=1, data_page_size=1, use_dictionary=False
    )
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    end = (
        pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0).column(0).total_compressed_size
    )
    data[end - 300 : end] = b"\xff" * 300
    (tmp_path / "x.parquet").write_bytes(data)
    found = [kind for _, kind in outcomes(open_source(tmp_path).entries())]
    assert found[:ROWS_TOGETHER] == [f"{row + 1} px" for row in range(ROWS_TOGETHER)]
    assert found[-1] == "damaged"
    assert len(require_one_order(open_source(tmp_path))) == len(found) == count


def test_a_file_replaced_after_it_was_listed_gives_as_many_entries(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes
) -> None:
    source = open_source(write_rows(tmp_path / "x.parquet", 12))
    for count, group, kept in ((10, 4, 10), (4, 4, 4), (12, 6, 8), (12, 2, 6)):
        write_rows(tmp_path / "x.parquet", count, group=group)
        found = [kind for _, kind in outcomes(source.entries())]
        assert len(found) == 12
        assert len([kind for kind in found if kind != "damaged"]) == kept


def test_a_large_group_is_read_piece_by_piece(tmp_path: Path) -> None:
    pieces: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            pieces.append(len(data))
            return data

    column = pa.array([bytes(100_000)] * 100)
    pq.write_table(
        pa.table({"image": column}),
        tmp_path / "x.parquet",
        use_dictionary=False,
        compression="none",
        write_batch_size=4,
    )
    data = (tmp_path / "x.parquet").read_bytes()
    assert (
        sum(
            1
            for _ in open_rows("", [File("x.parquet", len(data), partial(Watched, data))]).entries()
        )
        == 100
    )
    assert sum(pieces) > 100 * 100_000
    assert max(pieces) <= READ_BUFFER + 500_000  # a buffer and a page


@pytest.mark.parametrize("seed", range(3))
def test_bytes_changed_anywhere_before_the_end_leave_as_many_entries(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes, seed: int
) -> None:
    whole = write_rows(tmp_path / "x.parquet", 12).read_bytes()
    draw = np.random.default_rng(seed)
    body = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(20):
        data = bytearray(whole)
        for place in draw.integers(4, body, 4):
            data[place] = int(draw.integers(256))
        (tmp_path / "x.parquet").write_bytes(data)
        assert len(outcomes(open_source(tmp_path).entries())) == 12


@pytest.mark.parametrize("data", [b"", b"PAR1", b"text " * 100], ids=["empty", "head", "text"])
def test_a_file_without_a_good_end_is_refused_before_any_work(
    tmp_path: Path, write_rows: WriteRows, data: bytes
) -> None:
    write_rows(tmp_path / "a.parquet", 3)
    (tmp_path / "b.parquet").write_bytes(data)
    line = r"^'b\.parquet' cannot be read as Parquet \([^\n]+\)\. Fetch it anew, or take it away\.$"
    with pytest.raises(PaucError, match=line):
        open_source(tmp_path)


def test_a_file_that_vanishes_after_it_was_listed_is_as_many_entries(
    tmp_path: Path, write_rows: WriteRows, outcomes: Outcomes
) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.parquet", 2)
    source = open_source(tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert [found for _, found in outcomes(source.entries())] == [
        "missing",
        "missing",
        "1 px",
        "2 px",
    ]
    assert [found for _, found in outcomes(source.entries(1))] == ["missing", "1 px", "2 px"]


def test_files_without_rows_are_no_images(
    tmp_path: Path, write_rows: WriteRows, require_one_order: OneOrder
) -> None:
    write_rows(tmp_path / "a.parquet", 0)
    with pytest.raises(NoImages, match=r"^no images in '.*': 1 Parquet files without a row\.$"):
        open_source(tmp_path)
    write_rows(tmp_path / "b.parquet", 1)
    assert len(require_one_order(open_source(tmp_path))) == 1


def marked(*columns: str) -> dict[bytes, bytes]:
    features = {column: {"_type": "Image"} for column in columns} | {
        "label": {"_type": "ClassLabel"}
    }
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


FITTING: list[tuple[str, dict[str, pa.DataType], dict[bytes, bytes], str]] = [
    ("struct", {"photo": STRUCT, "thumb": pa.binary()}, {}, "photo"),
    ("named", {"img": pa.binary(), "key": pa.binary(), "label": pa.int64()}, {}, "img"),
    ("webdataset", {"jpg": pa.binary(), "key": pa.string(), "txt": pa.string()}, {}, "jpg"),
    ("marked", {"photo": pa.binary(), "image": STRUCT}, marked("photo"), "photo"),
    ("marked struct", {"audio": STRUCT, "photo": STRUCT}, marked("photo"), "photo"),
    ("image of several", {"mask": STRUCT, "image": STRUCT}, marked("mask", "image"), "image"),
    ("other metadata", {"photo": STRUCT}, {b"huggingface": b"[1]"}, "photo"),
    ("marked, but of text", {"link": pa.string(), "photo": STRUCT}, marked("link"), "photo"),
]


@pytest.mark.parametrize(
    ("columns", "metadata", "expected"), [row[1:] for row in FITTING], ids=[r[0] for r in FITTING]
)
def test_finds_the_column_of_images(
    columns: dict[str, pa.DataType], metadata: dict[bytes, bytes], expected: str
) -> None:
    assert (
        image_column("x.parquet", pa.schema(list(columns.items()), metadata=metadata)) == expected
    )


REFUSED: list[tuple[str, dict[str, pa.DataType], str]] = [
    (
        "none",
        {"url": pa.string(), "key": pa.binary()},
        (
            r"^'x\.parquet' has no column of images \(its columns: url, key\)\. .* jpg\. "
            r"Give .*image_column=NAME\.$"
        ),
    ),
    (
        "several",
        {"left": STRUCT, "right": STRUCT},
        (
            r"^'x\.parquet' has several columns of images \(left, right\)\. "
            r"Give image_column=left, or another\.$"
        ),
    ),
]


@pytest.mark.parametrize(
    ("columns", "line"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refuses_no_column_and_several(columns: dict[str, pa.DataType], line: str) -> None:
    with pytest.raises(PaucError, match=line):
        image_column("x.parquet", pa.schema(list(columns.items())))


def test_the_column_can_be_named(tmp_path: Path, write_rows: WriteRows) -> None:
    rows = pq.read_table(write_rows(tmp_path / "x.parquet", 3))
    both = pa.table(
        {"left": rows["image"], "right": rows["image"].slice(1).combine_chunks().take([1, 1, 0])}
    )
    pq.write_table(both, tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet", image_column="right")
    assert [entry.name for entry in source.entries()] == [
        f"x.parquet/{i:09d}/{n}.png" for i, n in enumerate((3, 3, 2))
    ]
    assert source.listing() != open_source(tmp_path / "x.parquet", image_column="left").listing()
    with pytest.raises(
        UsageError,
        match=r"^image_column=up is no column of image files in 'x\.parquet'; .* left, right",
    ):
        open_source(tmp_path / "x.parquet", image_column="up")


def test_tables_of_embeddings_are_refused(tmp_path: Path) -> None:
    schema = pa.schema([("image", pa.binary())], metadata={b"pauc": b"{}"})
    pq.write_table(pa.table({"image": [b""]}, schema=schema), tmp_path / "photos.parquet")
    with pytest.raises(
        UsageError, match=r"^'photos\.parquet' is a table of embeddings\. Give the images"
    ):
        open_source(tmp_path)
