"""Images in tars: in the order of the archive, each once, and what is broken shows."""

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.images.decoding import UnreadableImage
from pauc_hub.sources import Entry, Source, open_source
from pauc_hub.sources.stored import LARGEST_IMAGE

WriteTar = Callable[..., Path]
Outcomes = Callable[[Iterable[Entry]], list[tuple[str, str]]]
OneOrder = Callable[[Source], list[str]]

NAMES = ["b.png", "a.json", "a/deep/z.png", "A.JPG", "a.txt"]
IMAGES = [("b.png", "1 px"), ("a/deep/z.png", "3 px"), ("A.JPG", "4 px")]
BLOCK = 512


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("X.TAR", "w")]
)
def test_one_tar_gives_its_images_in_its_order(
    tmp_path: Path,
    write_tar: WriteTar,
    outcomes: Outcomes,
    require_one_order: OneOrder,
    name: str,
    mode: str,
) -> None:
    source = open_source(write_tar(tmp_path / name, NAMES, mode))
    expected = [(f"{name}/{member}", width) for member, width in IMAGES]
    assert outcomes(source.entries()) == expected
    assert require_one_order(source) == [found for found, _ in expected]
    assert source.root == str(tmp_path / name)


def test_a_folder_of_tars_gives_them_in_the_order_of_their_names(
    tmp_path: Path, write_tar: WriteTar, require_one_order: OneOrder
) -> None:
    for name in ("c.tar", "a.tar", "b/x.tgz", ".hidden.tar"):
        write_tar(tmp_path / name, ["2.png", "1.png"], "w:gz" if name.endswith("gz") else "w")
    (tmp_path / "a.json").touch()
    source = open_source(tmp_path)
    assert source.root == str(tmp_path)
    assert require_one_order(source) == [
        f"{archive}/{member}"
        for archive in ("a.tar", "b/x.tgz", "c.tar")
        for member in ("2.png", "1.png")
    ]


def test_the_listing_changes_with_names_order_and_sizes_of_archives(
    tmp_path: Path, write_tar: WriteTar
) -> None:
    def listing() -> str:
        images, sha256 = open_source(tmp_path).listing()
        assert images is None
        return sha256

    write_tar(tmp_path / "a.tar", ["1.png"])
    seen = {listing()}
    write_tar(tmp_path / "b.tar", ["1.png"])
    seen.add(listing())
    (tmp_path / "b.tar").rename(tmp_path / "c.tar")
    seen.add(listing())
    os.truncate(tmp_path / "c.tar", 5 * BLOCK)
    seen.add(listing())
    assert len(seen) == 4


def test_shares_carry_about_the_same_number_of_bytes(tmp_path: Path, write_tar: WriteTar) -> None:
    for name, images in (("a", 120), ("b", 20), ("c", 20), ("d", 80)):
        write_tar(tmp_path / f"{name}.tar", [f"{i}.png" for i in range(images)])
    source = open_source(tmp_path)
    shares = [{entry.name[0] for entry in source.share(rank, 2).entries()} for rank in range(2)]
    assert shares == [{"a"}, {"b", "c", "d"}]


def test_names_are_those_of_the_members(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes
) -> None:
    """Hidden ones are skipped, `./` is no part, bytes that are not UTF-8 are spelt out, long ones
    stay whole.
    """
    long = "d/" * 90 + "image" * 20 + ".png"
    names = [
        "./a.png",
        ".hidden.png",
        "./.git/b.png",
        "../up.png",
        os.fsdecode(b"caf\xe9.png"),
        "日本.png",
        long,
    ]
    source = open_source(write_tar(tmp_path / "x.tar", names))
    assert outcomes(source.entries()) == [
        ("x.tar/a.png", "1 px"),
        ("x.tar/../up.png", "4 px"),
        ("x.tar/caf\\xe9.png", "5 px"),
        ("x.tar/日本.png", "6 px"),
        (f"x.tar/{long}", "7 px"),
    ]


def test_a_member_that_is_there_twice_is_two_images(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes
) -> None:
    source = open_source(write_tar(tmp_path / "x.tar", ["a.png", "a.png"]))
    assert outcomes(source.entries()) == [("x.tar/a.png", "1 px"), ("x.tar/a.png", "2 px")]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_what_is_no_plain_file_is_an_entry_only_where_it_is_named_like_an_image_and_no_folder(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes, mode: str
) -> None:
    path = tmp_path / ("x.tar" if mode == "w" else "x.tgz")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, kind in [
            ("folder", tarfile.DIRTYPE),
            ("folder.png", tarfile.DIRTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("soft.png", tarfile.SYMTYPE),
            ("link", tarfile.SYMTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
            ("empty.png", tarfile.REGTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.png"
            tar.addfile(member)
        text = tarfile.TarInfo("text.png")
        text.size = 4
        tar.addfile(text, io.BytesIO(b"text"))
    assert outcomes(open_source(path).entries()) == [
        (f"{path.name}/hard.png", "not_a_file"),
        (f"{path.name}/soft.png", "not_a_file"),
        (f"{path.name}/pipe.png", "not_a_file"),
        (f"{path.name}/empty.png", "empty"),
        (f"{path.name}/text.png", "not_an_image"),
    ]


def test_an_image_too_large_for_memory_is_not_read(tmp_path: Path, outcomes: Outcomes) -> None:
    member = tarfile.TarInfo("a.png")
    member.size = LARGEST_IMAGE + 1
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(member.tobuf())
        file.truncate(BLOCK + LARGEST_IMAGE + BLOCK + 2 * BLOCK)
    assert outcomes(open_source(tmp_path / "x.tar").entries()) == [("x.tar/a.png", "too_large")]


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_a_tar_cut_off_anywhere_gives_what_is_whole_and_one_entry_for_the_break(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes, suffix: str
) -> None:
    path = write_tar(
        tmp_path / f"x.{suffix}", ["1.png", "2.png", "3.json"], "w:gz" if suffix == "tgz" else "w"
    )
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        image_ends = [member.offset_data + member.size for member in tar][:2]
    # headers and contents, and one byte of the end mark
    end = len(data) if suffix == "tgz" else 7 * BLOCK + 1
    whole = [(f"{path.name}/1.png", "1 px"), (f"{path.name}/2.png", "2 px")]
    for length in range(0, end, 7 if suffix == "tgz" else 128):
        path.write_bytes(data[:length])
        found = outcomes(open_source(path).entries())
        if suffix == "tgz" and found == whole:  # cut in the zeros or in the sum at the end
            assert length > len(data) - 40
            continue
        assert found[-1] == (path.name, "damaged"), length
        assert found[:-1] == whole[: len(found) - 1], length
        assert suffix == "tgz" or len(found) - 1 == sum(
            length >= image_end for image_end in image_ends
        )


def test_a_break_says_where_it_is_and_the_next_archive_goes_on(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes, require_one_order: OneOrder
) -> None:
    for name in ("a", "b", "c"):
        write_tar(tmp_path / f"{name}.tar", ["1.png", "2.png"])
    broken = tmp_path / "b.tar"
    data = bytearray(broken.read_bytes())
    data[2 * BLOCK : 2 * BLOCK + 20] = b"\xff" * 20  # in the second header
    broken.write_bytes(data)
    source = open_source(tmp_path)
    assert [name for name, _ in outcomes(source.entries())] == [
        "a.tar/1.png",
        "a.tar/2.png",
        "b.tar/1.png",
        "b.tar",
        "c.tar/1.png",
        "c.tar/2.png",
    ]
    with pytest.raises(UnreadableImage) as refusal:
        next(source.entries(3)).open()
    assert (refusal.value.kind, refusal.value.message) == (
        "damaged",
        (
            "the archive cannot be read beyond its first 1 images: it is cut off, or damaged (bad "
            "checksum)"
        ),
    )
    require_one_order(source)


def test_what_is_no_tar_is_one_entry(tmp_path: Path, outcomes: Outcomes) -> None:
    for name, data in [
        ("a.tar", b""),
        ("b.tar", b"text " * 500),
        ("c.tgz", b"text"),
        ("d.tgz", b""),
    ]:
        (tmp_path / name).write_bytes(data)
    names = ["a.tar", "b.tar", "c.tgz", "d.tgz"]
    assert outcomes(open_source(tmp_path).entries()) == [(name, "damaged") for name in names]


def test_a_negative_size_does_not_turn_the_walk_back(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes
) -> None:
    path = write_tar(tmp_path / "x.tar", ["a.txt"])
    member = tarfile.TarInfo("b.png")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    # base 256, as GNU tar writes numbers: back to itself
    header[124:136] = (256**12 - BLOCK).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    path.write_bytes(path.read_bytes()[: 3 * BLOCK] + header + bytes(2 * BLOCK))
    assert outcomes(islice(open_source(path).entries(), 3)) == [("x.tar", "damaged")]


def test_archives_that_vanish_or_shrink_after_they_were_listed_are_entries(
    tmp_path: Path, write_tar: WriteTar, outcomes: Outcomes
) -> None:
    for name in ("a.tar", "b.tar", "c.tar"):
        write_tar(tmp_path / name, ["1.png"])
    source = open_source(tmp_path)
    (tmp_path / "a.tar").unlink()
    held = next(source.entries(1))
    os.truncate(tmp_path / "b.tar", BLOCK)
    assert outcomes([held]) == [("b.tar/1.png", "damaged")]
    assert outcomes(source.entries()) == [
        ("a.tar", "missing"),
        ("b.tar/1.png", "damaged"),
        ("b.tar", "damaged"),
        ("c.tar/1.png", "1 px"),
    ]


def test_a_tar_that_is_not_there_is_refused_before_any_work(
    tmp_path: Path, write_tar: WriteTar
) -> None:
    write_tar(tmp_path / "a.tar", ["1.png"])
    (tmp_path / "b.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(
        UsageError, match=r"^'.*/b\.tar' cannot be read \(No such file or directory\)\.$"
    ):
        open_source(tmp_path)
    (tmp_path / "b.tar").unlink()
    os.mkfifo(tmp_path / "b.tar")
    with pytest.raises(
        UsageError, match=r"^'.*/b\.tar' is a folder, pipe or device, not a file\.$"
    ):
        open_source(tmp_path)
