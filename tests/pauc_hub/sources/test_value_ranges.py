"""The value range of a source: one for all its images, and nothing for photographs."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.images.decoding import read_numbers
from pauc_hub.images.reading import Reading
from pauc_hub.sources import open_source, value_ranges
from pauc_hub.sources.value_ranges import with_measured_range


def write(path: Path, values: "np.ndarray[Any, Any]") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def ramp(low: float, high: float, kind: str) -> "np.ndarray[Any, Any]":
    return np.linspace(low, high, 400).reshape(20, 20).astype(kind)


def measured(place: Path, reading: Reading | None = None) -> Any:
    return with_measured_range(open_source(place), reading or Reading()).value_range


def test_each_storage_type_has_a_range_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "cold.tif", ramp(270, 290, "float32"))
    write(tmp_path / "warm.tif", ramp(290, 310, "float32"))
    write(tmp_path / "a" / "x.png", ramp(0, 4080, "uint16"))
    write(tmp_path / "photo.png", ramp(0, 255, "uint8"))
    found = measured(tmp_path)
    assert found["float32"] == pytest.approx((270, 310), abs=0.1)
    assert found["uint16"] == pytest.approx((0, 4080), abs=15)
    assert set(found) == {"float32", "uint16"}


def test_photographs_have_none_and_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.png", "c.tif", "d.webp"):
        write(tmp_path / name, ramp(0, 255, "uint8"))
    looked_at: list[str] = []

    def noting(file: Path, bands: tuple[int, ...]) -> Any:
        looked_at.append(file.name)
        return read_numbers(file, bands)

    monkeypatch.setattr(value_ranges, "read_numbers", noting)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("an image was decoded"))
    assert measured(tmp_path) is None
    assert sorted(looked_at) == ["b.png", "c.tif"]  # the others cannot hold more than 8 bits


def test_what_is_given_or_declared_is_not_measured(tmp_path: Path, write_tiff: Any) -> None:
    write_tiff(tmp_path / "x.tif", ramp(0, 4080, "uint16")[..., None], tags={281: [4095]})
    assert measured(tmp_path) is None
    write(tmp_path / "y.png", ramp(0, 4080, "uint16"))
    assert measured(tmp_path, Reading((0.0, 5.0))) == (0, 5)
    assert measured(tmp_path, Reading("image")) == "image"


def test_what_a_model_was_trained_with_goes_before_what_is_measured(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "x.png", ramp(0, 4080, "uint16"))
    write(tmp_path / "flat" / "x.png", ramp(0, 255, "uint8"))
    deep, flat = open_source(tmp_path / "deep"), open_source(tmp_path / "flat")
    for learnt in (Reading((0.0, 5.0), (1,)), Reading("image"), Reading({"uint16": (0.0, 7.0)})):
        assert with_measured_range(deep, Reading(), learnt=learnt) == learnt
        # where there is nothing to read by a range, none is recorded
        assert with_measured_range(flat, Reading(), learnt=learnt) == Reading(bands=learnt.bands)
        given = Reading((1.0, 2.0), (2,))
        assert with_measured_range(deep, given, learnt=learnt) == given


def test_as_many_are_looked_at_as_are_needed_the_same_ones_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        write(tmp_path / f"{i}.png", np.full((2, 2), 100 * i, np.uint16))
    monkeypatch.setattr(value_ranges, "LOOKED_AT", 8)
    some = measured(tmp_path)
    assert some == measured(tmp_path)
    # by a hash of the names: neither all nor the first ones
    assert some["uint16"] not in {(0, 3900), (0, 700)}
    monkeypatch.setattr(value_ranges, "LOOKED_AT", 1000)
    monkeypatch.setattr(value_ranges, "MEASURED", 1)
    assert measured(tmp_path)["uint16"] == (0, 65535)  # one image of one value


def test_the_search_ends_where_none_is_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        write(tmp_path / f"{i}.png", ramp(0, 255, "uint8"))
    looked_at = []
    monkeypatch.setattr(value_ranges, "read_numbers", lambda file, bands: looked_at.append(file))
    monkeypatch.setattr(value_ranges, "TOGETHER", 2)
    monkeypatch.setitem(value_ranges.PATIENCE, True, 4)
    assert measured(tmp_path) is None
    assert len(looked_at) == 4


def test_archives_and_parquet_files_are_measured_too(tmp_path: Path) -> None:
    write(tmp_path / "images" / "x.tif", ramp(270, 310, "float32"))
    (tmp_path / "images" / "broken.tif").write_bytes(b"II*\0")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "images", "images")
    file = io.BytesIO((tmp_path / "images" / "x.tif").read_bytes())
    rows = pa.table({"image": pa.array([{"bytes": file.getvalue(), "path": None}])})
    pq.write_table(rows, tmp_path / "x.parquet")
    folder = measured(tmp_path / "images")
    assert folder["float32"] == pytest.approx((270, 310), abs=0.1)
    assert measured(tmp_path / "x.tar") == measured(tmp_path / "x.parquet") == folder


def test_all_processes_find_the_same_since_they_look_at_the_whole(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", np.full((2, 2), 100 * i, np.uint16))
    source = open_source(tmp_path)
    reading = with_measured_range(source, Reading())
    assert [entry.name for entry in source.share(1, 2).entries()] == ["2.png", "3.png"]
    assert with_measured_range(open_source(tmp_path), Reading()) == reading
