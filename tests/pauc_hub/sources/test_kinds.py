"""What a folder is taken for, and what is said where it is nothing that is known."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pauc_hub.errors import NoImages
from pauc_hub.sources import open_source

Write = Callable[..., Path]


def names(place: Path) -> list[str]:
    return [entry.name for entry in open_source(place).entries()]


def test_images_come_before_tars_and_tars_before_parquet(
    tmp_path: Path, write_tar: Write, write_rows: Write
) -> None:
    write_rows(tmp_path / "a.parquet", 1)
    assert names(tmp_path) == ["a.parquet/000000000/1.png"]
    write_tar(tmp_path / "b.tar", ["1.png"])
    assert names(tmp_path) == ["b.tar/1.png"]
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "c.png").touch()
    assert names(tmp_path) == ["z/c.png"]


def test_a_folder_named_like_a_file_is_a_folder(tmp_path: Path) -> None:
    for name in ("x.tar", "x.parquet", "x.txt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
        assert names(tmp_path / name) == ["a.png"]


def test_a_folder_that_cannot_be_listed_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse_locked(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refuse_locked)
    assert names(tmp_path) == ["locked/"]
    assert names(tmp_path / "locked") == ["."]


def test_a_folder_without_images_says_what_was_found_and_what_was_looked_for(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        NoImages,
        match=r"^no images in '.*': no file there ends in \.avif, .*\.tar, .*\.parquet\.$",
    ):
        open_source(tmp_path)
    for name in ("a.zip", "b.xyz", ".hidden.png"):
        (tmp_path / name).touch()
    with pytest.raises(
        NoImages, match=r"^no images in '.*': 2 files, none of which ends in \.avif, \.bmp, .*\.$"
    ):
        open_source(tmp_path)
