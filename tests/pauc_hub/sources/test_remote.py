"""Sources behind URLs: as those on disk, and no password ever leaves the URL it stands in."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from pauc_hub.errors import PaucError, UsageError
from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.sources import Entry, Source, open_source
from pauc_hub.sources.stored import public

Write = Callable[..., Path]
Outcomes = Callable[[Iterable[Entry]], list[tuple[str, str]]]
OneOrder = Callable[[Source], list[str]]
Put = Callable[..., None]


@pytest.fixture
def put() -> Iterator[Put]:
    """Put files into memory, given by their paths there and what is in them."""
    system = MemoryFileSystem()

    def put_files(files: dict[str, bytes | Path]) -> None:
        for path, data in files.items():
            system.pipe_file(path, data.read_bytes() if isinstance(data, Path) else data)

    yield put_files
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def names(place: str) -> list[str]:
    return [entry.name for entry in open_source(place).entries()]


def test_a_folder_is_walked_as_on_disk(put: Put, require_one_order: OneOrder) -> None:
    paths = [
        "b.jpg",
        "a/z.png",
        "a/b/c.webp",
        "A.JPG",
        "a.b/c.tiff",
        ".h.png",
        ".git/x.png",
        "notes.txt",
    ]
    put({f"/photos/{path}": b"text" for path in paths})
    source = open_source("memory://photos/")
    assert require_one_order(source) == ["A.JPG", "a.b/c.tiff", "a/b/c.webp", "a/z.png", "b.jpg"]
    assert source.root == "memory://photos"
    assert source.listing() == open_source("memory://photos").listing()


def test_images_are_fetched_when_they_are_opened(
    put: Put, outcomes: Outcomes, tmp_path: Path
) -> None:
    put({"/p/a.png": b"", "/p/b.png": b"text", "/p/c.png": b"", "/p/d.png": picture(tmp_path)})
    entries = list(open_source("memory://p").entries())
    MemoryFileSystem().rm("/p/c.png")
    assert outcomes(entries) == [
        ("a.png", "empty"),
        ("b.png", "not_an_image"),
        ("c.png", "missing"),
        ("d.png", "3 px"),
    ]


def picture(tmp_path: Path) -> bytes:
    from PIL import Image

    Image.new("RGB", (3, 3)).save(tmp_path / "3.png")
    return (tmp_path / "3.png").read_bytes()


def test_one_file_of_any_name_is_an_image(put: Put, outcomes: Outcomes, tmp_path: Path) -> None:
    put({"/p/scan.dat": picture(tmp_path)})
    assert outcomes(open_source("memory://p/scan.dat").entries()) == [("scan.dat", "3 px")]


def test_tars_are_read_from_front_to_back(
    put: Put, write_tar: Write, outcomes: Outcomes, require_one_order: OneOrder, tmp_path: Path
) -> None:
    plain = write_tar(tmp_path / "0.tar", ["a.png", "b.txt", "c.png"])
    packed = write_tar(tmp_path / "1.tgz", ["d.png"], "w:gz")
    put({"/s/0.tar": plain, "/s/1.tgz": packed, "/s/2.tar": plain.read_bytes()[:1500]})
    whole = [("0.tar/a.png", "1 px"), ("0.tar/c.png", "3 px"), ("1.tgz/d.png", "1 px")]
    cut = [("2.tar/a.png", "1 px"), ("2.tar", "damaged")]
    source = open_source("memory://s")
    assert outcomes(source.entries()) == whole + cut
    require_one_order(source)
    assert outcomes(open_source("memory://s/{0.tar,1.tgz}").entries()) == whole
    assert outcomes(open_source("memory://s/0.tar").entries()) == whole[:2]
    assert outcomes(open_source("memory://s/2.*").entries()) == cut


def test_a_tar_cut_in_the_middle_of_an_image_is_one_entry(
    put: Put, write_tar: Write, outcomes: Outcomes, tmp_path: Path
) -> None:
    put({"/s/0.tar": write_tar(tmp_path / "0.tar", ["a.png"]).read_bytes()[:520]})
    assert outcomes(open_source("memory://s").entries()) == [("0.tar", "damaged")]


def test_parquet_files_are_read_by_their_groups(
    put: Put, write_rows: Write, outcomes: Outcomes, require_one_order: OneOrder, tmp_path: Path
) -> None:
    put(
        {
            "/d/a.parquet": write_rows(tmp_path / "a.parquet", 6),
            "/d/b.parquet": write_rows(tmp_path / "b.parquet", 3),
        }
    )
    source = open_source("memory://d/*.parquet")
    assert len(require_one_order(source)) == source.listing().images == 9
    assert outcomes(source.entries(5)) == [
        ("a.parquet/000000005/6.png", "6 px"),
        *((f"b.parquet/{row:09d}/{row + 1}.png", f"{row + 1} px") for row in range(3)),
    ]
    assert source.root == "memory://d"


def test_lists_name_urls_and_what_lies_beside_them(
    put: Put, outcomes: Outcomes, require_one_order: OneOrder, tmp_path: Path
) -> None:
    put(
        {
            "/p/d.png": picture(tmp_path),
            "/q/list.txt": b"memory://p/d.png\ne.png\n",
            "/q/e.png": picture(tmp_path),
        }
    )
    source = open_source("memory://q/list.txt")
    assert outcomes(source.entries()) == [("memory://p/d.png", "3 px"), ("e.png", "3 px")]
    require_one_order(source)
    assert source.root == "memory://q"
    (tmp_path / "local.txt").write_text("memory://p/d.png\n3.png\nmemory://p/gone.png")
    found = list(open_source(tmp_path / "local.txt").entries())
    assert [entry.name for entry in found] == ["memory://p/d.png", "3.png", "memory://p/gone.png"]
    assert outcomes(found[::2]) == [
        ("memory://p/d.png", "3 px"),
        ("memory://p/gone.png", "missing"),
    ]
    assert found[1].open() == tmp_path / "3.png"


def test_a_folder_that_cannot_be_listed_is_an_entry(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"/p/a.png": b"", "/p/locked/b.png": b"", "/p/z.png": b""})
    ls = MemoryFileSystem.ls

    def refuse(system: Any, path: str, **options: Any) -> Any:
        if "locked" in path:
            raise PermissionError("no access to https://user:secret@host/locked?key=secret")
        return ls(system, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    assert names("memory://p") == ["a.png", "locked/", "z.png"]
    monkeypatch.setattr(
        MemoryFileSystem, "cat_file", lambda system, path, **options: refuse(system, path)
    )
    with pytest.raises(UnreadableImage) as refusal:
        next(open_source("memory://p").entries(1)).open()
    assert (refusal.value.kind, refusal.value.message) == (
        "permission",
        "no access to https://host/locked",
    )


REFUSED: list[tuple[str, type[PaucError], str]] = [
    ("memory://nowhere", UsageError, r"^no such file or folder: 'memory://nowhere'$"),
    ("memory://nowhere/x.tar", UsageError, r"^no such file or folder: 'memory://nowhere/x\.tar'$"),
    (
        "memory://nowhere/list.txt",
        UsageError,
        r"^no such file or folder: 'memory://nowhere/list\.txt'$",
    ),
    ("memory://nowhere/*.tar", UsageError, r"^no file matches 'memory://nowhere/\*\.tar'\.$"),
    (
        "memory://nowhere/{0..1}.tar",
        UsageError,
        r"^no such file or folder: 'memory:///nowhere/0\.tar'$",
    ),
    (
        "nothing://user:secret@x",
        UsageError,
        r"^'nothing://x' cannot be opened: Protocol not known: nothing\.$",
    ),
]


@pytest.mark.parametrize(("place", "kind", "line"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_not_there_is_refused(place: str, kind: type[PaucError], line: str) -> None:
    with pytest.raises(kind, match=line):
        open_source(place)


def test_a_server_that_fails_is_told_in_one_line_without_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("503 from https://user:secret@host/x?key=secret\nand more")

    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    line = r"^'memory://x' cannot be reached \(503 from https://host/x and more\)\.$"
    with pytest.raises(PaucError, match=line):
        open_source("memory://user:secret@x")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        PaucError, match=r"^'gs://x' needs a package that is not installed: .*gcsfs.*\.$"
    ):
        open_source("gs://x")


PUBLIC = [
    ("s3://bucket/a b/c.tar", "s3://bucket/a b/c.tar"),
    ("https://user:pass@host:80/a/b.jpg?sig=1#x", "https://host:80/a/b.jpg"),
    ("ftp://u:p@ss@host/a", "ftp://host/a"),
    ("hf://datasets/owner/name@main/x.parquet", "hf://datasets/owner/name@main/x.parquet"),
    ("simplecache::https://u:p@host/a?b", "simplecache::https://host/a"),
    ("403 for url 'https://u:p@h/a?b', retried", "403 for url 'https://h/a', retried"),
    ("a/b?c@d", "a/b?c@d"),
]


@pytest.mark.parametrize(("text", "expected"), PUBLIC)
def test_passwords_and_signatures_are_cut_out_of_urls(text: str, expected: str) -> None:
    assert public(text) == expected


# ---------------------------------------------------------------- a real server


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that shows tmp_path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_gives_folders_tars_and_lists(
    tmp_path: Path, served: str, write_tar: Write, outcomes: Outcomes, require_one_order: OneOrder
) -> None:
    for name in ("p/a.png", "p/b c/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(tmp_path))
    folder = open_source(f"{served}/p/")
    assert outcomes(folder.entries()) == [("a.png", "3 px"), ("b%20c/d.png", "3 px")]
    assert folder.root == f"{served}/p"
    for name in ("00", "01"):
        write_tar(tmp_path / "s" / f"{name}.tar", [f"{i}.png" for i in range(4)])
    assert len(require_one_order(open_source(f"{served}/s/{{00..01}}.tar?sig=secret"))) == 8
    assert outcomes(open_source(f"{served}/s/00.tar").entries())[-1] == ("00.tar/3.png", "4 px")
    write_tar(
        tmp_path / "large.tar", ["0.png", *(f"{i}.txt" for i in range(6000)), "1.png"]
    )  # more than a block of fsspec
    assert outcomes(open_source(f"{served}/large.tar").entries()) == [
        ("large.tar/0.png", "1 px"),
        ("large.tar/1.png", "6002 px"),
    ]
    signed = open_source(f"{served}/p/a.png?key=secret")
    assert (signed.root, outcomes(signed.entries())) == (f"{served}/p/a.png", [("a.png", "3 px")])
    (tmp_path / "list.txt").write_text(f"p/a.png\n{served}/p/gone.png?key=secret\n")
    assert outcomes(open_source(f"{served}/list.txt").entries()) == [
        ("p/a.png", "3 px"),
        (f"{served}/p/gone.png", "missing"),
    ]
    with pytest.raises(UsageError, match=rf"^no such file or folder: '{served}/gone\.txt'$"):
        open_source(f"{served}/gone.txt?key=secret")
