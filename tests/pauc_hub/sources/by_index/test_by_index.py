"""Images by index: what is found, what is copied to a scratch file, and what becomes of unreadable
ones.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]
from PIL import Image

from pauc_hub import sources
from pauc_hub.errors import NoImages, PaucError, UsageError
from pauc_hub.images.jpeg import size_of
from pauc_hub.sources import spool
from pauc_hub.sources.by_index import ImageSource, from_entries, open_by_index, reopenable
from pauc_hub.sources.folders import ImageFile
from pauc_hub.sources.spool import Spool, Spooled
from pauc_hub.sources.tars import Member

Make = Callable[..., bytes]
Write = Callable[..., Path]
NOT_AN_IMAGE = (
    "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, JPEG2000, PPM, TGA)"
)
NAMES = ["b.png", "sub/a.PNG", "c.png"]


def files(png: Make) -> dict[str, bytes]:
    return {name: png(index) for index, name in enumerate(NAMES)} | {
        "notes.txt": b"",
        ".hidden/d.png": png(9),
    }


def pixels(source: ImageSource) -> list[bytes]:
    return [np.asarray(source.read(index)).tobytes() for index in range(len(source))]


def expected(noise: Callable[..., Image.Image], *indices: int) -> list[bytes]:
    return [noise(index).tobytes() for index in indices]


# --- what is found


def test_a_folder_in_the_order_of_names(
    tmp_path: Path, png: Make, noise: Callable[..., Image.Image], write_files: Write
) -> None:
    source = open_by_index(write_files(tmp_path / "photos", files(png)))
    assert source.names == ["b.png", "c.png", "sub/a.PNG"]
    assert pixels(source) == expected(noise, 0, 2, 1)
    assert all(
        isinstance(image, ImageFile)
        for image in reopenable(sources.open_source(tmp_path / "photos"))
    )
    assert source.root == str(tmp_path / "photos")


def test_a_plain_tar_is_read_in_place_in_its_own_order(
    tmp_path: Path, png: Make, noise: Callable[..., Image.Image], write_tar: Write
) -> None:
    source = open_by_index(write_tar(tmp_path / "x.tar", files(png)))
    assert source.names == [f"x.tar/{name}" for name in NAMES]
    assert pixels(source) == expected(noise, 0, 1, 2)
    assert all(
        isinstance(image, Member) for image in reopenable(sources.open_source(tmp_path / "x.tar"))
    )


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_a_compressed_tar_goes_through_the_scratch_file(
    tmp_path: Path, png: Make, noise: Callable[..., Image.Image], write_tar: Write, name: str
) -> None:
    source = open_by_index(write_tar(tmp_path / name, files(png) | {"empty.png": b""}, "w:gz"))
    assert source.names == [f"{name}/{each}" for each in (*NAMES, "empty.png")]
    for index in (2, 0, 1, 2):  # in any order, and again
        assert np.asarray(source.read(index)).tobytes() == noise(index).tobytes()
    kept = list(reopenable(sources.open_source(tmp_path / name)))
    assert all(isinstance(image, Spooled) for image in kept[:3])
    assert source.read(3) is None
    assert source.unreadable == {3: "the file has no bytes"}


def test_rows_of_parquet_and_images_behind_urls(
    tmp_path: Path, png: Make, noise: Callable[..., Image.Image], write_files: Write
) -> None:
    rows = [
        {"bytes": png(5), "path": "e.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": png(7), "path": None},
    ]
    pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
    table = open_by_index(tmp_path / "t.parquet")
    assert table.names == [
        "t.parquet/000000000/e.png",
        "t.parquet/000000001/gone.png",
        "t.parquet/000000002",
    ]
    assert table.read(1) is None
    assert [np.asarray(table.read(index)).tobytes() for index in (2, 0)] == expected(noise, 7, 5)
    system = MemoryFileSystem()
    system.pipe_file("/train/a.png", png(1))
    write_files(
        tmp_path,
        {"b.png": png(2), "list.txt": b"memory://train/a.png\nb.png\nmemory://train/c.png\n"},
    )
    mixed = open_by_index(str(tmp_path / "list.txt"))
    system.rm("/train", recursive=True)  # nothing is fetched twice
    assert mixed.names == ["memory://train/a.png", "b.png", "memory://train/c.png"]
    assert [np.asarray(mixed.read(index)).tobytes() for index in (0, 1)] == expected(noise, 1, 2)
    assert mixed.read(2) is None
    assert mixed.unreadable[2].startswith("no such file: ")


def test_a_cut_tar_gives_what_lies_before_the_break(
    tmp_path: Path, png: Make, write_tar: Write
) -> None:
    path = write_tar(tmp_path / "cut.tar", {f"{i}.png": png(i) for i in range(4)})
    path.write_bytes(path.read_bytes()[:2500])
    source = open_by_index(path)
    readable = [source.read(index) is not None for index in range(len(source))]
    assert readable == [True] * (len(source) - 1) + [False]
    assert source.names[-1] == "cut.tar"
    assert "cannot be read beyond its first" in source.unreadable[len(source) - 1]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("nowhere", None, UsageError, "no such file or folder: '{}'"),
        (
            "photos.zip",
            b"PK",
            UsageError,
            "'{}' is one file, and no tar, Parquet file or list. Training needs many",
        ),
        (
            "x.tar",
            b"no tar",
            NoImages,
            "no images in '{}' that can be read; x.tar: the archive cannot be read",
        ),
        ("list.txt", b"\n", NoImages, "no images in '{}': the list is empty"),
    ],
)
def test_nothing_to_train_on_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, kind: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind) as refused:
        open_by_index(tmp_path / name)
    assert str(refused.value).startswith(message.format(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_a_tar_without_images_is_refused(tmp_path: Path, write_tar: Write) -> None:
    with pytest.raises(NoImages, match="no member of its archives is named like one"):
        open_by_index(write_tar(tmp_path / "x.tar", {"notes.txt": b"text"}))


def test_the_fingerprint_is_of_the_names_and_their_order() -> None:
    def fingerprint(*names: str) -> str:
        return from_entries("photos", [ImageFile(name, name) for name in names]).fingerprint()

    assert fingerprint("a", "b") == fingerprint("a", "b") != fingerprint("b", "a")
    assert fingerprint("a", "b") != fingerprint("a", "c")


def test_passwords_are_not_kept(twelve: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = sources.open_source(twelve.root)
    monkeypatch.setattr(sources, "open_source", lambda _: opened)
    assert open_by_index("s3://user:hunter2@bucket/photos?key=hunter2").root == "s3://bucket/photos"


# --- some of them


def test_a_subset_is_numbered_anew_and_knows_nothing_unreadable(
    twelve: ImageSource, noise: Callable[..., Image.Image]
) -> None:
    assert twelve.read(3) is None
    few = twelve.subset([11, 3, 0])
    assert (few.names, few.unreadable) == (["11.png", "03.png", "00.png"], {})
    assert np.asarray(few.read(2)).tobytes() == noise(0).tobytes()
    assert few.read(1) is None
    assert few.unreadable == {1: NOT_AN_IMAGE}


def test_the_size_of_a_picture_is_its_width_and_height() -> None:
    assert size_of(Image.new("RGB", (3, 2))) == size_of(np.zeros((2, 3, 3), np.uint8)) == (3, 2)


# --- the scratch file


def test_the_scratch_file_has_no_name_and_goes_with_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = Spool()
    first, second = kept.add("a", b"abc"), kept.add("b", b"defg")
    assert [second.open().read(), first.open().read(), second.open().read()] == [
        b"defg",
        b"abc",
        b"defg",
    ]
    assert list(tmp_path.iterdir()) == []
    descriptor = kept.descriptor
    del kept, first, second
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_too_little_room_is_one_line_before_anything_is_read(
    tmp_path: Path, png: Make, write_tar: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x.tgz", {f"{i}.png": png(i) for i in range(4)}, "w:gz")
    free = path.stat().st_size + spool.ROOM_LEFT
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert len(open_by_index(path)) == 4
    usage.free -= 1  # type: ignore[attr-defined]
    with pytest.raises(
        PaucError, match=r"^these images can only be read from front to back, .* Set TMPDIR to a "
    ):
        open_by_index(path)


def test_a_disk_that_fills_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept, written = Spool(), repeat(1)
    monkeypatch.setattr(os, "pwrite", lambda *_: next(written))
    assert kept.add("a", b"abc").size == kept.size == 3  # a byte at a time
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PaucError, match=r"has room for 0\.0\. Set TMPDIR"):
        kept.add("b", b"abc")
