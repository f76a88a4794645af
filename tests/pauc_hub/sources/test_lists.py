"""Lists of files and patterns of files: what is named is what there is, in the order in which it is
named.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.sources import Entry, Source, open_source
from pauc_hub.sources.patterns import above, write_out

Write = Callable[..., Path]
Outcomes = Callable[[Iterable[Entry]], list[tuple[str, str]]]
OneOrder = Callable[[Source], list[str]]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(place: str | Path) -> list[str]:
    return [entry.name for entry in open_source(place).entries()]


# ---------------------------------------------------------------- lists


def test_a_list_gives_what_it_names_in_its_order(
    tmp_path: Path, require_one_order: OneOrder
) -> None:
    lines = [
        "b.png",
        "a b.jpg",
        "",
        f"{tmp_path}/c.gif",
        "sub/../b.png",
        "# 1.png",
        "b.png ",
        "no suffix",
    ]
    (tmp_path / "images.txt").write_text("\ufeff" + "\r\n".join(lines))
    source = open_source(tmp_path / "images.txt")
    assert require_one_order(source) == [line for line in lines if line]
    assert [entry.open() for entry in source.entries()] == [
        tmp_path / line for line in lines if line
    ]
    assert source.root == str(tmp_path)
    assert source.listing().images == 7


def test_the_listing_of_a_list_changes_with_its_order(tmp_path: Path) -> None:
    seen = set()
    for text in ("a.png\nb.png\n", "b.png\na.png\n", "a.png\n"):
        (tmp_path / "images.txt").write_text(text)
        seen.add(open_source(tmp_path / "images.txt").listing().sha256)
    assert len(seen) == 3


def test_lines_that_are_not_utf8_become_text_and_still_open(tmp_path: Path) -> None:
    path = touch(tmp_path, os.fsdecode(b"caf\xe9.png")) / os.fsdecode(b"caf\xe9.png")
    (tmp_path / "images.txt").write_bytes(b"caf\xe9.png\n")
    (entry,) = open_source(tmp_path / "images.txt").entries()
    assert (entry.name, entry.open()) == ("caf\\xe9.png", path)
    assert entry.modified() == path.stat().st_mtime


def test_a_list_in_another_encoding_says_so_for_each_line(
    tmp_path: Path, outcomes: Outcomes
) -> None:
    (tmp_path / "images.txt").write_text("a.png", encoding="utf-16-le")
    assert outcomes(open_source(tmp_path / "images.txt").entries()) == [
        ("a\0.\0p\0n\0g\0", "missing")
    ]


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("\n\n")
    with pytest.raises(NoImages, match=r"^no images in '.*/images\.txt': the list is empty\.$"):
        open_source(tmp_path / "images.txt")


def test_a_list_of_tars_is_the_images_in_them(
    tmp_path: Path, write_tar: Write, require_one_order: OneOrder
) -> None:
    write_tar(tmp_path / "a.tar", ["1.png"])
    write_tar(tmp_path / "b.tar", ["1.png"])
    (tmp_path / "shards.txt").write_text(f"{tmp_path}/b.tar\na.tar\n")
    assert require_one_order(open_source(tmp_path / "shards.txt")) == [
        f"{tmp_path}/b.tar/1.png",
        "a.tar/1.png",
    ]


def test_a_list_of_parquet_files_is_the_images_in_them(tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "a.parquet", 2)
    (tmp_path / "files.txt").write_text("a.parquet\n")
    assert names(tmp_path / "files.txt") == [
        "a.parquet/000000000/1.png",
        "a.parquet/000000001/2.png",
    ]


# ---------------------------------------------------------------- patterns

PATTERNS = [
    ("a.tar", ["a.tar"]),
    ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
    ("{8..11}", ["8", "9", "10", "11"]),
    ("{08..11}", ["08", "09", "10", "11"]),
    ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
    ("{,x}y", ["y", "xy"]),
    ("{3..1}", []),
    ("{a}", ["{a}"]),
    ("{a..c}", ["{a..c}"]),
]


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS, ids=[row[0] for row in PATTERNS])
def test_braces_are_written_out(pattern: str, expected: list[str]) -> None:
    assert list(write_out(pattern)) == expected


def test_the_root_of_a_pattern_is_the_folder_above_all_matches() -> None:
    assert [
        above(pattern) for pattern in ("a/b/*.tar", "a/b{0..1}/c.tar", "*.tar", "/{a,b}", "a/b.tar")
    ] == [
        "a/b/",
        "a/",
        "",
        "/",
        "a/",
    ]


def test_patterns_match_tars_in_the_order_of_the_pattern(
    tmp_path: Path, write_tar: Write, require_one_order: OneOrder
) -> None:
    for name in ("000", "001", "002", "003"):
        write_tar(tmp_path / "shards" / f"{name}.tar", ["1.png"])
    source = open_source(f"{tmp_path}/shards/{{002,000}}.tar")
    assert require_one_order(source) == ["002.tar/1.png", "000.tar/1.png"]
    assert source.root == str(tmp_path / "shards")
    assert names(f"{tmp_path}/sh*/00[12].tar") == ["shards/001.tar/1.png", "shards/002.tar/1.png"]


def test_patterns_match_images_and_nothing_that_is_not_named_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_one_order: OneOrder
) -> None:
    touch(
        tmp_path,
        "b/2.png",
        "a/1.jpg",
        "a/notes.txt",
        "c/3.png",
        ".h/4.png",
        "a/deep/5.png",
        "b/.6.png",
    )
    monkeypatch.chdir(tmp_path)
    assert require_one_order(open_source("*/*")) == ["a/1.jpg", "b/2.png", "c/3.png"]
    assert names("**/*.png") == ["a/deep/5.png", "b/2.png", "c/3.png"]
    assert open_source("*/*.png").root == str(tmp_path)


def test_a_file_with_the_letters_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png", "{x,y}/b.png")
    assert names(tmp_path / "a[1].png") == ["a[1].png"]
    assert names(tmp_path / "{x,y}") == ["b.png"]


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no file matches '.*/\*\.tar'\.$"):
        open_source(tmp_path / "*.tar")


def test_shards_that_a_pattern_names_must_be_there(tmp_path: Path, write_tar: Write) -> None:
    write_tar(tmp_path / "0.tar", ["1.png"])
    with pytest.raises(
        UsageError, match=r"^'.*/1\.tar' cannot be read \(No such file or directory\)\.$"
    ):
        open_source(tmp_path / "{0..1}.tar")
