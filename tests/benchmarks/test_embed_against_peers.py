"""Photographs are found, outputs are looked at, and ratios stand the right way up."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from embed_against_peers import gather, limits, photographs, shape, summarise


def test_photographs_come_from_a_folder_or_a_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jpeg").write_bytes(b"two")
    (tmp_path / "a.jpg").write_bytes(b"one")
    column = pa.array([{"bytes": b"one", "path": "a.jpg"}, {"bytes": b"two", "path": None}])
    pq.write_table(pa.table({"image": column}), tmp_path / "photos.parquet")
    assert photographs(tmp_path) == photographs(tmp_path / "photos.parquet") == [b"one", b"two"]


def test_no_photographs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no photographs in"):
        photographs(tmp_path)


def test_photographs_are_taken_in_turn(tmp_path: Path) -> None:
    source, room = tmp_path / "source", tmp_path / "room"
    source.mkdir()
    room.mkdir()
    for name in "abc":
        (source / f"{name}.jpg").write_bytes(name.encode())
    photos, one = gather(source, 5, room)
    assert [path.read_bytes() for path in sorted(photos.iterdir())] == [
        b"a",
        b"b",
        b"c",
        b"a",
        b"b",
    ]
    assert [path.read_bytes() for path in one.iterdir()] == [b"a"]


def test_outputs_of_all_tools_have_a_shape(tmp_path: Path) -> None:
    rows = np.ones((3, 4), dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 4)
    pq.write_table(pa.table({"embedding": column}), tmp_path / "a.parquet")
    np.save(tmp_path / "a.npy", rows)
    torch.save({"filenames": ["a"] * 3, "embeddings": torch.from_numpy(rows)}, tmp_path / "a.pt")
    assert {shape(path) for path in tmp_path.iterdir()} == {(3, 4)}


def took(seconds: float, peak: float) -> dict[str, float]:
    return {
        "seconds": seconds,
        "peak_mib": peak,
        "images_per_second": 100 / seconds,
        "cores_busy": 2.0,
    }


def test_ratios_say_how_many_times_a_peer_takes_what_we_take() -> None:
    runs = {
        "ceilings": [{"bf16_gflops": 82.0, "fp32_gflops": 41.0, "copy_gb_per_second": 5.0}],
        "bare": [{"seconds": 4.0, "peak_mib": 400.0}],
        "one": {"ours": [took(5, 500)], "theirs": [took(10, 700)]},
        "all": {"ours": [took(20, 600), took(30, 600), took(21, 600)], "theirs": [took(63, 900)]},
    }
    found = summarise(runs)
    assert found["ratios"] == {
        "seconds over ours": {"theirs": 3.0},
        "peak memory over ours": {"theirs": 1.5},
        "one photograph, seconds over ours": {"theirs": 2.0},
        "one photograph, seconds over the bare import": {"ours": 1.25, "theirs": 2.5},
    }
    assert found["medians"]["all photographs"]["ours"]["seconds"] == 21


def test_the_limit_is_that_of_the_time_after_the_start() -> None:
    top = {"bf16_gflops": 82.0, "fp32_gflops": 41.0, "copy_gb_per_second": 5.0}
    found = limits(took(30, 600), 5.0, top)
    assert found["images_per_second_after_start"] == pytest.approx(100 / 25)
    assert found["share_of_bf16_products"] == pytest.approx(8.2 * 4 / 82)
    assert found["share_of_fp32_products"] == pytest.approx(8.2 * 4 / 41)
