"""Files among the images that are none: counted by suffix, once, wherever they lie."""

import io
from collections.abc import Callable
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest
from PIL import Image

from pauc_hub.errors import NoImages
from pauc_hub.images import formats
from pauc_hub.sources import kinds, open_source, passed_over
from pauc_hub.sources.by_index import open_by_index

WITHOUT_HEIF = formats.IMAGE_SUFFIXES - formats.HEIF


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = tmp_path / "mixed"
    for name in (
        "a.jpg",
        "b/c.PNG",
        "b/x.HEIC",
        "b/y.heic",
        "film.mov",
        "README",
        ".hidden.mov",
        "shards/1.tar",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


EXPECTED = {".heic": 2, ".mov": 1, "": 1, ".tar": 1}


@pytest.fixture(autouse=True)
def no_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "IMAGE_SUFFIXES", WITHOUT_HEIF)


def test_a_folder_counts_them_when_it_is_listed(mixed: Path) -> None:
    source = open_source(mixed)
    assert passed_over(source) == {}
    assert source.listing().images == 2
    assert passed_over(source) == EXPECTED
    list(source.entries())
    assert passed_over(source) == EXPECTED


def test_images_by_index_know_them(
    mixed: Path, tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    assert open_by_index(mixed, quiet=True).passed_over == EXPECTED
    assert open_by_index(
        write_tar(tmp_path / "x.tar", ["1.png", "2.dng"]), quiet=True
    ).passed_over == {".dng": 1}


def test_of_several_processes_the_first_tells_all(mixed: Path) -> None:
    shares = [open_source(mixed).share(rank, 2) for rank in range(2)]
    assert [share.listing().images for share in shares] == [1, 1]
    assert [passed_over(share) for share in shares] == [EXPECTED, {}]


def test_a_pattern_and_a_remote_folder_count_them_too(mixed: Path) -> None:
    source = open_source(str(mixed / "**" / "*"))
    source.listing()
    assert passed_over(source) == EXPECTED
    memory = fsspec.filesystem("memory")
    for name in ("a.png", "b.heic", "c/d.mov"):
        memory.pipe(f"/mixed/{name}", b"x")
    source = open_source("memory://mixed")
    source.listing()
    assert passed_over(source) == {".heic": 1, ".mov": 1}


def test_archives_count_pictures_and_no_captions(
    tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    source = open_source(
        write_tar(tmp_path / "x.tar", ["1.png", "1.txt", "1.json", "2.dng", "3.mp4"])
    )
    for _ in range(2):
        assert len(list(source.entries())) == 1
        assert passed_over(source) == {".dng": 1, ".mp4": 1}


def test_where_there_is_nothing_else_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.heic").touch()
    with pytest.raises(
        NoImages, match=r"1 file, none of which .*For \.heic: pip install 'pauc-hub\[heif\]'\.$"
    ):
        open_source(tmp_path)


def test_what_is_found_with_the_extra_is_not_passed_over(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "IMAGE_SUFFIXES", WITHOUT_HEIF | formats.HEIF)
    source = open_source(mixed)
    assert source.listing().images == 4
    assert ".heic" not in passed_over(source)


def test_lists_and_single_files_pass_nothing_over(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    (tmp_path / "a.dat").write_bytes(stream.getvalue())
    source = open_source(tmp_path / "a.dat")
    source.listing()
    assert passed_over(source) == {}
