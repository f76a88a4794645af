"""Walking folders of every shape: links, loops, hidden files, names of any bytes."""

import os
from pathlib import Path

import pytest
from PIL import Image

from pauc_hub.errors import NoImages, UsageError
from pauc_hub.images.decoding import UnreadableImage, read_image
from pauc_hub.sources.folders import find_images

RED = (255, 0, 0)


def save(path: Path, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), RED).save(path, **options)
    return path


def found_names(root: Path) -> list[str]:
    return [image.name for image in find_images(root)]


def test_finds_any_nesting_in_sorted_order_and_skips_what_is_hidden_or_no_image(
    tmp_path: Path,
) -> None:
    for name in [
        "b.jpg",
        "a/z.png",
        "a/b/c/d.webp",
        "ä ö/日本.gif",
        "A.JPG",
        "x.JpEg",
        "a.b/c.tiff",
        "s p.bmp",
    ]:
        save(tmp_path / name)
    for name in [".hidden.jpg", ".git/x.jpg", "a/.cache/y.png", "._b.jpg"]:
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("jpg")
    (tmp_path / "jpg").write_text("jpg")
    expected = [
        "A.JPG",
        "a.b/c.tiff",
        "a/b/c/d.webp",
        "a/z.png",
        "b.jpg",
        "s p.bmp",
        "x.JpEg",
        "ä ö/日本.gif",
    ]
    assert found_names(tmp_path) == expected
    assert [image.path for image in find_images(tmp_path)] == [tmp_path / name for name in expected]


def test_follows_links_to_files_and_folders_and_survives_loops(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    save(elsewhere / "x.png")
    save(root / "real" / "y.png")
    (root / "link").symlink_to(elsewhere)
    (root / "file.png").symlink_to(elsewhere / "x.png")
    (root / "real" / "up").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    assert found_names(root) == ["file.png", "link/x.png", "real/y.png"]


def test_lists_what_only_looks_like_an_image_so_that_reading_it_can_tell_why(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path / "folder.png" / "inside.png")
    assert found_names(tmp_path) == ["broken.png", "folder.png/inside.png", "loop.png", "pipe.png"]


def test_names_that_are_not_utf8_become_text_and_still_open(tmp_path: Path) -> None:
    save(tmp_path / os.fsdecode(b"caf\xe9.png"))
    (image,) = find_images(tmp_path)
    assert image.name == "caf\\xe9.png"
    assert read_image(image.path).getpixel((0, 0)) == RED


def test_one_file_of_any_name_is_its_own_root(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.dat", format="PNG")
    (image,) = find_images(path)
    assert (image.name, image.path) == ("scan.dat", path)


def test_a_folder_that_cannot_be_listed_is_handed_on_to_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse_locked(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_locked)
    assert found_names(tmp_path) == ["a.png", "locked/"]
    with pytest.raises(UnreadableImage, match="Permission denied"):
        read_image(tmp_path / "locked")


def test_nothing_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no such file or folder: '.*/photos'$"):
        find_images(tmp_path / "photos")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    save(tmp_path / ".hidden" / "a.png")
    with pytest.raises(
        NoImages,
        match=r"^no images in '.*': no file there ends in \.avif, \.bmp, \.gif, .*\.webp\.$",
    ):
        find_images(tmp_path)
