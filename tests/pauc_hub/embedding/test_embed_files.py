"""From images to tables, by an encoder whose embedding of an image is its mean colour."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from watched_embedding import embed, left, stop_after

import pauc_hub
from pauc_hub.embedding.embed_files import embed_files
from pauc_hub.errors import Interrupted, NoImages, OutputExists, PaucError
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.streaming import embed_images
from pauc_hub.sources import Entry, Listing, Source, open_source
from pauc_hub.tables.stored import read_table


@dataclass(frozen=True)
class Vanishing:
    """A source of which one file is gone as soon as the first entry was found."""

    source: Source
    victim: Path

    @property
    def root(self) -> str:
        return self.source.root

    @property
    def size(self) -> int | None:
        return self.source.size

    def listing(self) -> Listing:
        return self.source.listing()

    def entries(self, start: int = 0) -> Iterator[Entry]:
        for entry in self.source.entries(start):
            self.victim.unlink(missing_ok=True)
            yield entry

    def share(self, rank: int, ranks: int) -> Source:
        return self


def test_fp32_is_read_by_pillow_and_bf16_by_the_quick_decoder(
    photos: Path,
    mean_colour: Any,
    monkeypatch: pytest.MonkeyPatch,
    picture: Callable[[int, int], Image.Image],
) -> None:
    picture(61, 47).save(photos / "a.jpg")
    decoded: list[str] = []

    def watch(self: Preprocessing, pixels: Any) -> Any:
        decoded.append(f"{pixels.shape[1]} x {pixels.shape[0]}")
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(Preprocessing, "quick_square", watch)
    rough = mean_colour()
    rough.precision = "bf16"
    embed(photos, mean_colour())
    exact = read_table(photos.with_name("photos.parquet"))
    assert decoded == []
    embed(photos, rough, overwrite=True)
    quick = read_table(photos.with_name("photos.parquet"))
    assert decoded == ["61 x 47"]  # of eight readable images, the one JPEG
    assert (exact.paths, exact.sizes.tolist()) == (quick.paths, quick.sizes.tolist())
    assert pq.read_table(photos.with_name("photos.errors.parquet")).num_rows == 2
    assert embed_images(rough, [photos / "a.jpg", photos / "0.png"])[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_writes_embeddings_in_the_order_of_names_and_lists_what_cannot_be_read(
    photos: Path, encoder: Any, batch_size: int
) -> None:
    summary = embed(photos, encoder, batch_size=batch_size)
    table = read_table(photos.with_name("photos.parquet"))
    order = [0, 2, 4, 6, 1, 3, 5]
    assert table.paths == [f"sub/{i}.png" if i % 2 else f"{i}.png" for i in order]
    assert table.embeddings.tolist() == [[10.0 * i, 0.0, 0.0] for i in order]
    assert table.sizes.tolist() == [[20 + i, 30] for i in order]
    assert pq.read_table(photos.with_name("photos.errors.parquet")).to_pylist() == [
        {"path": "2b.jpg", "kind": "empty", "message": "the file has no bytes"},
        {
            "path": "sub/z.png",
            "kind": "not_an_image",
            "message": (
                "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF, "
                "JPEG2000, PPM, TGA)"
            ),
        },
    ]
    assert (summary.images, summary.unreadable, summary.width) == (7, 2, 3)
    assert (summary.output, summary.errors) == (
        photos.with_name("photos.parquet"),
        photos.with_name("photos.errors.parquet"),
    )
    assert left(photos) == ["photos", "photos.errors.parquet", "photos.parquet"]


def test_the_table_says_where_it_is_from(photos: Path, encoder: Any) -> None:
    embed(photos, encoder)
    provenance = read_table(photos.with_name("photos.parquet")).provenance
    assert (provenance.model, provenance.weights_sha256, provenance.precision) == (
        "mean",
        "00",
        "fp32",
    )
    assert (provenance.space, provenance.root) == ("backbone", str(photos))
    assert Preprocessing.from_config(provenance.preprocessing) == encoder.preprocessing
    assert provenance.package_version == pauc_hub.__version__


def test_overwriting_removes_the_errors_of_an_earlier_run(photos: Path, encoder: Any) -> None:
    embed(photos, encoder)
    (photos / "2b.jpg").unlink()
    (photos / "sub" / "z.png").unlink()
    summary = embed(photos, encoder, overwrite=True)
    assert (summary.unreadable, summary.errors) == (0, None)
    assert left(photos) == ["photos", "photos.parquet"]


def test_refuses_an_output_that_is_there_before_it_reads_anything(
    photos: Path, encoder: Any
) -> None:
    photos.with_name("photos.parquet").write_bytes(b"old")
    with pytest.raises(OutputExists):
        embed(photos, encoder)
    assert encoder.batches == []
    assert photos.with_name("photos.parquet").read_bytes() == b"old"


def test_fails_where_no_image_can_be_read_and_leaves_the_reasons(
    photos: Path, encoder: Any
) -> None:
    for path in photos.rglob("?.png"):
        path.write_bytes(b"")
    with pytest.raises(NoImages) as failure:
        embed(photos, encoder)
    assert str(failure.value) == (
        "none of 9 images could be read; '0.png': the file has no bytes. "
        f"All are listed in '{photos.with_name('photos.errors.parquet')}'."
    )
    assert left(photos) == ["photos", "photos.errors.parquet"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_leaves_nothing_when_it_is_stopped_before_anything_is_done(
    photos: Path, encoder: Any, stop: type[BaseException]
) -> None:
    stop_after(encoder, 0, stop)
    with pytest.raises(Interrupted if stop is KeyboardInterrupt else stop):
        embed(photos, encoder, batch_size=2)
    assert left(photos) == ["photos"]


def test_an_image_that_vanishes_after_the_listing_is_a_row(photos: Path, encoder: Any) -> None:
    summary = embed_files(
        encoder, Vanishing(open_source(photos), photos / "0.png"), photos.with_name("t.parquet")
    )
    errors = pq.read_table(photos.with_name("t.errors.parquet")).to_pylist()
    assert summary.images == 6
    assert errors[0] == {"path": "0.png", "kind": "missing", "message": "No such file or directory"}


def test_a_batch_too_large_for_the_gpu_says_what_to_do(photos: Path, encoder: Any) -> None:
    stop_after(
        encoder,
        0,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nGPU 0 has …"),
    )
    with pytest.raises(
        PaucError, match=r"^batch_size=4 does not fit the GPU\. Give a smaller one\.$"
    ):
        embed(photos, encoder, batch_size=5)
