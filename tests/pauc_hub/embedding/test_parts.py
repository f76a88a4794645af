"""The part of a table that one of several processes writes."""

from pathlib import Path

import pytest

from pauc_hub.embedding.parts import part_of
from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.processes import Ranks


def test_a_part_is_named_by_rank_and_count_in_a_folder_that_is_made(tmp_path: Path) -> None:
    place = part_of(tmp_path / "b.parquet", Ranks(3, 4, 1, 2))
    assert place == tmp_path / "b.parquet" / "part-00003-of-00004.parquet"
    assert place.parent.is_dir()
    assert part_of(Path("nowhere/a.npy"), Ranks()) == Path("nowhere/a.npy")


def test_a_place_that_is_taken_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.parquet").touch()
    with pytest.raises(
        OutputExists, match=r"one\.parquet' is the table of one process\. Name another place\.$"
    ):
        part_of(tmp_path / "one.parquet", Ranks(0, 2))
    part_of(tmp_path / "three.parquet", Ranks(0, 3)).touch()
    with pytest.raises(
        OutputExists,
        match=r"parts of another number of processes \(part-00000-of-00003\.parquet\)",
    ):
        part_of(tmp_path / "three.parquet", Ranks(0, 2))
    with pytest.raises(
        UsageError, match=r"cannot be made \(No such file or directory\)\. Name another place\.$"
    ):
        part_of(tmp_path / "no" / "b.parquet", Ranks(0, 2))


def test_parts_are_parquet() -> None:
    with pytest.raises(
        UsageError,
        match=r"^4 processes write parts in \.parquet alone; the output is 'a\.npy'\.$",
    ):
        part_of(Path("a.npy"), Ranks(0, 4))
