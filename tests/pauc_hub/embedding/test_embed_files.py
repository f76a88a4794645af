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

import pauc_hub
from pauc_hub.embedding.embed_files import Summary, embed_files
from pauc_hub.embedding.plan import Form
from pauc_hub.errors import Interrupted, NoImages, OutputExists, PaucError, UnfinishedRun
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.streaming import embed_images
from pauc_hub.sources import Entry, Listing, Source, open_source
from pauc_hub.tables.stored import read_table


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images of one colour each, (10 i, 0, 0), and sizes of their own; two more files cannot
    be read.
    """
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(7):
        Image.new("RGB", (20 + i, 30), (10 * i, 0, 0)).save(
            root / ("sub" if i % 2 else ".") / f"{i}.png"
        )
    (root / "2b.jpg").write_bytes(b"")
    (root / "sub" / "z.png").write_text("text")
    return root


@pytest.fixture
def encoder(mean_colour: Any) -> Any:
    return mean_colour()


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


def stop_after(encoder: Any, batches: int, error: BaseException | type[BaseException]) -> None:
    """From then on, the encoder raises."""
    encode = encoder.encode

    def encode_or_stop(batch: torch.Tensor, space: str) -> torch.Tensor:
        if len(encoder.batches) >= batches:
            raise error
        answer: torch.Tensor = encode(batch, space)
        return answer

    encoder.encode = encode_or_stop


def embed(photos: Path, encoder: Any, **options: Any) -> Summary:
    return embed_files(
        encoder,
        open_source(photos),
        photos.with_name("photos.parquet"),
        **{"quiet": True} | options,
    )


def left(photos: Path) -> list[str]:
    return sorted(path.name for path in photos.parent.iterdir())


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
    assert table.paths == [
        "0.png",
        "2.png",
        "4.png",
        "6.png",
        "sub/1.png",
        "sub/3.png",
        "sub/5.png",
    ]
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
        PaucError, match=(r"^batch_size=4 does not fit the GPU\. Give a smaller one\.$")
    ):
        embed(photos, encoder, batch_size=5)


# ---------------------------------------------------------------- stopping, going on


@pytest.mark.parametrize(
    "stop", [RuntimeError("broken"), KeyboardInterrupt(), PaucError("no memory")]
)
@pytest.mark.parametrize("batches", [1, 2, 3])
def test_the_same_call_goes_on_and_makes_the_same_tables(
    photos: Path, mean_colour: Any, stop: BaseException, batches: int
) -> None:
    whole = made_at_once(photos, mean_colour())
    first, second = mean_colour(), mean_colour()
    stop_after(first, batches, stop)
    with pytest.raises(Interrupted if isinstance(stop, KeyboardInterrupt) else type(stop)):
        embed(photos, first, batch_size=2)
    assert left(photos) == [".photos.parquet.unfinished", "photos"]
    summary = embed(photos, second, batch_size=2)
    assert sum(first.batches) + sum(second.batches) == 7
    assert summary.resumed == 2 * batches
    assert (summary.images, summary.unreadable) == (7, 2)
    assert tables(photos) == whole


def test_ctrl_c_says_how_many_are_done_and_that_the_same_command_goes_on(
    photos: Path, encoder: Any
) -> None:
    stop_after(encoder, 2, KeyboardInterrupt)
    with pytest.raises(Interrupted) as stop:
        embed(photos, encoder, batch_size=2)
    assert str(stop.value) == (
        "interrupted; 4 of 9 images are done, and the same command goes on from there."
    )


def test_batches_may_be_smaller_after_a_stop(photos: Path, encoder: Any, mean_colour: Any) -> None:
    whole = made_at_once(photos, mean_colour())
    stop_after(encoder, 1, torch.OutOfMemoryError)
    with pytest.raises(PaucError):
        embed(photos, encoder, batch_size=4)
    embed(photos, mean_colour(), batch_size=1)
    assert tables(photos) == whole


CHANGES: list[tuple[str, object, str]] = [
    ("name", "median", "model (mean, now median)"),
    ("weights_sha256", "01", "weights"),
    ("precision", "bf16", "precision (fp32, now bf16)"),
    ("preprocessing", Preprocessing(size=9, crop_pct=1.0), "preprocessing"),
]


@pytest.mark.parametrize(("attribute", "value", "named"), CHANGES, ids=[row[0] for row in CHANGES])
def test_another_model_does_not_go_on(
    photos: Path, mean_colour: Any, attribute: str, value: object, named: str
) -> None:
    stop(photos, mean_colour())
    other = mean_colour()
    setattr(other, attribute, value)
    with pytest.raises(UnfinishedRun) as refusal:
        embed(photos, other)
    assert str(refusal.value) == (
        f"an unfinished run for '{photos.with_name('photos.parquet')}' had another {named}. "
        "Give the same command to go on with it, or restart=True to drop it and start anew."
    )
    assert embed(photos, other, restart=True).resumed == 0
    assert left(photos) == ["photos", "photos.errors.parquet", "photos.parquet"]


def test_other_images_spaces_and_folders_do_not_go_on(
    photos: Path, mean_colour: Any, tmp_path: Path
) -> None:
    stop(photos, mean_colour())
    with pytest.raises(UnfinishedRun, match=r" had another space \(backbone, now projection\)\. "):
        embed(photos, mean_colour(), space="projection")
    (photos / "0.png").rename(photos / "1.png")
    with pytest.raises(UnfinishedRun, match=r" had another list of images\. "):
        embed(photos, mean_colour())
    (photos / "1.png").unlink()
    with pytest.raises(
        UnfinishedRun, match=(r" had another number of images \(9, now 8\), list of images\. ")
    ):
        embed(photos, mean_colour())
    (photos / "0.png").write_bytes(b"")
    moved = photos.rename(tmp_path / "moved")
    with pytest.raises(
        UnfinishedRun, match=(r" had another folder of images \(.*/photos, now .*/moved\)\. ")
    ):
        embed_files(mean_colour(), open_source(moved), tmp_path / "photos.parquet", quiet=True)
    moved.rename(photos)
    assert embed(photos, mean_colour()).resumed == 4


def test_a_damaged_description_is_refused_and_a_damaged_shard_is_made_again(
    photos: Path, mean_colour: Any
) -> None:
    whole = made_at_once(photos, mean_colour())
    working = photos.with_name(".photos.parquet.unfinished")
    stop(photos, mean_colour())
    (shard,) = working.glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:-20])
    assert embed(photos, mean_colour(), batch_size=2).resumed == 0
    assert tables(photos) == whole
    stop(photos, mean_colour(), overwrite=True)
    (working / "run.json").write_text("{")
    with pytest.raises(
        UnfinishedRun,
        match=(r"run\.json' is damaged\. Give restart=True to drop it and start anew\.$"),
    ):
        embed(photos, mean_colour(), overwrite=True)
    assert embed(photos, mean_colour(), overwrite=True, restart=True).resumed == 0


def test_a_stopped_run_leaves_the_table_that_it_would_replace(
    photos: Path, mean_colour: Any
) -> None:
    embed(photos, mean_colour())
    whole = tables(photos)
    stop(photos, mean_colour(), overwrite=True)
    assert tables(photos) == whole
    assert embed(photos, mean_colour()).done_before
    assert embed(photos, mean_colour(), overwrite=True).resumed == 4


def test_two_runs_for_one_output_do_not_meet(photos: Path, encoder: Any, mean_colour: Any) -> None:
    refusals = []
    encode = encoder.encode

    def encode_beside(batch: torch.Tensor, space: str) -> Any:
        with pytest.raises(PaucError) as refusal:
            embed(photos, mean_colour())
        refusals.append(str(refusal.value))
        return encode(batch, space)

    encoder.encode = encode_beside
    embed(photos, encoder)
    output = photos.with_name("photos.parquet")
    assert refusals == [
        (f"another process is writing '{output}'. Wait for it, or name another output.")
    ]


def stop(photos: Path, encoder: Any, **options: Any) -> None:
    """A run that is stopped after four images."""
    stop_after(encoder, 2, KeyboardInterrupt)
    with pytest.raises(Interrupted):
        embed(photos, encoder, batch_size=2, **options)


def tables(photos: Path) -> list[bytes]:
    return [photos.with_name(f"photos{suffix}.parquet").read_bytes() for suffix in ("", ".errors")]


def made_at_once(photos: Path, encoder: Any) -> list[bytes]:
    """The tables of a run that nothing stops, which are taken away again."""
    embed(photos, encoder, batch_size=2)
    whole = tables(photos)
    for suffix in ("", ".errors"):
        photos.with_name(f"photos{suffix}.parquet").unlink()
    return whole


def test_numbers_too_large_for_float16_are_told_of_at_once_and_lose_nothing(
    photos: Path, mean_colour: Any
) -> None:
    """Not when all images are done; and what is done is taken over in the other form."""
    encoder, other = mean_colour(), mean_colour()
    plain = encoder.encode
    encoder.encode = other.encode = lambda batch, space: 2e3 * plain(batch, space)
    with pytest.raises(
        PaucError, match=(r"^the embedding of '4\.png' holds 80000, and float16 ends at 65504")
    ):
        embed(photos, encoder, form=Form("float16"), batch_size=2)
    assert embed(photos, other).resumed == 4  # of nine: two batches
