"""Shared by the tests of sources: tars and Parquet files of small images, and what becomes of
entries.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pauc_hub.images.decoding import UNREADABLE_KINDS, UnreadableImage, read_image
from pauc_hub.sources import Entry, Source

WriteTar = Callable[..., Path]
WriteRows = Callable[..., Path]
Outcomes = Callable[[Iterable[Entry]], list[tuple[str, str]]]


def png(width: int) -> bytes:
    """An image that is known again by its width."""
    stream = io.BytesIO()
    Image.new("RGB", (width, 1)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, names: Sequence[str], mode: str = "w") -> Path:
    """Images of widths 1, 2, …; what is not named like one gets 700 bytes of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for width, name in enumerate(names, 1):
            data = png(width) if name.endswith((".png", ".JPG")) else b"x" * 700
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_rows(path: Path, count: int, *, group: int = 4, first: int = 1) -> Path:
    """Images of widths `first` and up, in groups, as the datasets library writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": png(width), "path": f"{width}.png"} for width in range(first, first + count)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        pa.table({"image": pa.array(rows, kind), "label": range(count)}), path, row_group_size=group
    )
    return path


def outcome(entry: Entry) -> str:
    assert entry.modified() is None
    try:
        return f"{read_image(entry.open()).width} px"
    except UnreadableImage as refusal:
        kind, message = refusal.kind, refusal.message
    assert kind in UNREADABLE_KINDS
    assert len(message.splitlines()) == 1
    return kind


@pytest.fixture(scope="session", name="write_tar")
def _write_tar() -> WriteTar:
    return write_tar


@pytest.fixture(scope="session", name="write_rows")
def _write_rows() -> WriteRows:
    return write_rows


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    """Names, each with its image's width, or with the reason why there is none."""
    return lambda entries: [(entry.name, outcome(entry)) for entry in entries]


@pytest.fixture(scope="session")
def require_one_order() -> Callable[[Source], list[str]]:
    """Check that any start and any shares give what the whole gives; returns the names of the
    whole.
    """

    def names(source: Source, start: int = 0) -> list[str]:
        return [entry.name for entry in source.entries(start)]

    def require(source: Source) -> list[str]:
        whole = names(source)
        assert [names(source, start) for start in range(len(whole) + 2)] == [
            whole[start:] for start in range(len(whole) + 2)
        ]
        for ranks in (1, 2, 3, 7, len(whole) + 2):
            shares = [source.share(rank, ranks) for rank in range(ranks)]
            assert [name for share in shares for name in names(share)] == whole
            assert all(names(share, 1) == names(share)[1:] for share in shares)
            assert all(share.listing().images in (None, len(names(share))) for share in shares)
            assert all(share.root == source.root for share in shares)
        return whole

    return require
