"""Folders of images as sources: one order, any start, any number of shares."""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import readable
from pauc_hub.sources import Source, open_source
from pauc_hub.sources.folders import find_images


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(source: Source, start: int = 0) -> list[str]:
    return [entry.name for entry in source.entries(start)]


PART = st.sampled_from(["a", "b", "a.b", "a-b", "a~", "é", "Z", "0"])
TREE = st.lists(
    st.lists(PART, min_size=1, max_size=4).map("/".join), min_size=1, max_size=30, unique=True
)


@settings(deadline=None)  # the disk may be busy
@given(tree=TREE, start=st.integers(0, 35), ranks=st.integers(1, 40))
def test_any_tree_is_walked_in_the_order_of_names_from_any_start_in_any_shares(
    tree: list[str], start: int, ranks: int
) -> None:
    with TemporaryDirectory() as folder:
        source = open_source(touch(Path(folder), *(f"{name}.jpg" for name in tree)))
        whole = names(source)
        assert whole == sorted(f"{name}.jpg" for name in tree)
        assert whole == [image.name for image in find_images(Path(folder))]
        assert names(source, start) == whole[start:]
        shares = [source.share(rank, ranks) for rank in range(ranks)]
        assert [name for share in shares for name in names(share)] == whole
        assert {len(names(share)) for share in shares} <= {
            len(whole) // ranks,
            len(whole) // ranks + 1,
        }
        assert names(shares[-1], start) == names(shares[-1])[start:]


def test_a_share_can_be_shared_again(tmp_path: Path) -> None:
    half = open_source(touch(tmp_path, *(f"{i}.png" for i in range(9)))).share(1, 2)
    assert names(half) == ["4.png", "5.png", "6.png", "7.png", "8.png"]
    assert names(half.share(0, 2)) == ["4.png", "5.png"]
    assert names(half.share(1, 2), 1) == ["7.png", "8.png"]


def test_the_listing_counts_and_changes_with_the_names(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "b.jpg", "a/c.jpg"))
    before = source.listing()
    assert before == (2, hashlib.sha256(b"a/c.jpg\0b.jpg\0").hexdigest())
    touch(tmp_path, "notes.txt", ".hidden.jpg")
    assert open_source(tmp_path).listing() == before
    touch(tmp_path, "a/d.jpg")
    after = open_source(tmp_path).listing()
    assert after.images == 3
    assert after.sha256 != before.sha256


def test_what_was_listed_stays_so_that_what_vanishes_is_noticed(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "b.jpg", "a/c.jpg"))
    before = source.listing()
    (tmp_path / "b.jpg").unlink()
    touch(tmp_path, "d.jpg")
    assert source.listing() == before
    assert [entry.name for entry in source.entries()] == ["a/c.jpg", "b.jpg"]
    assert [entry.name for entry in source.entries(1)] == ["b.jpg"]
    one, other = source.entries(), source.entries()  # each has a place of its own
    assert [next(one).name, next(other).name, next(one).name] == ["a/c.jpg", "a/c.jpg", "b.jpg"]


def test_a_share_lists_its_own_images(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "a.jpg", "b.jpg", "c.jpg"))
    assert source.share(1, 2).listing() == (2, hashlib.sha256(b"b.jpg\0c.jpg\0").hexdigest())


def test_entries_open_as_paths_and_tell_when_they_were_modified(tmp_path: Path) -> None:
    (entry,) = open_source(touch(tmp_path, "a/b.jpg")).entries()
    path = tmp_path / "a" / "b.jpg"
    assert entry.open() == path
    assert entry.modified() == path.stat().st_mtime
    path.unlink()
    with pytest.raises(FileNotFoundError):
        entry.modified()


def test_the_root_is_absolute_and_printable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert open_source("photos").root == readable(tmp_path / "photos")
    assert open_source(f"file://{tmp_path}/photos").root == readable(tmp_path / "photos")
    assert open_source(Path("photos/a.jpg")).root == readable(tmp_path / "photos" / "a.jpg")


def test_one_file_of_any_name_is_an_image(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "scan.dat") / "scan.dat")
    assert names(source) == ["scan.dat"]
    assert source.listing().images == 1
    assert names(source.share(0, 2)) + names(source.share(1, 2)) == ["scan.dat"]


def test_folders_are_entered_only_when_it_is_their_turn(tmp_path: Path) -> None:
    """So a folder that changes meanwhile costs no more than what changed."""
    found = open_source(touch(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg", "d/4.jpg")).entries()
    assert next(found).name == "a/1.jpg"
    touch(tmp_path, "c/5.jpg")
    (tmp_path / "b" / "2.jpg").unlink()
    (tmp_path / "d" / "4.jpg").unlink()
    (tmp_path / "d").rmdir()
    assert [entry.name for entry in found] == ["c/3.jpg", "c/5.jpg", "d/"]


def test_names_that_are_not_utf8_are_sorted_as_they_are_shown(tmp_path: Path) -> None:
    source = open_source(
        touch(
            tmp_path,
            os.fsdecode(b"\xe9.png"),
            "a.png",
            "Z.png",
            os.fsdecode(b"\xe9/b.png"),
            "é.png",
        )
    )
    assert names(source) == ["Z.png", "\\xe9.png", "\\xe9/b.png", "a.png", "é.png"]


def test_nothing_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no such file or folder: '.*/photos'$"):
        open_source(tmp_path / "photos")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoImages, match=r"^no images in '"):
        open_source(touch(tmp_path, "a.xyz"))
