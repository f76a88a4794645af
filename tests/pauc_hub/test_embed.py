"""The streaming engine, driven by an encoder whose embedding of an image is its mean colour."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import pauc_hub
from pauc_hub.embed import ImageSource, Summary, decode_ahead, embed_files, embed_images
from pauc_hub.errors import NoImages, OutputExists, PaucError, UsageError
from pauc_hub.images import find_images
from pauc_hub.preprocess import Preprocessing
from pauc_hub.table import read_table


class MeanColour:
    """An encoder; counts the images of each batch it is given."""

    name, weights_sha256, precision = "mean", "00", "fp32"
    preprocessing = Preprocessing(size=8, crop_pct=1.0)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def width_in(self, space: str) -> int:
        return 3

    def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
        self.batches.append(len(batch))
        return batch.float().mean(dim=(1, 2))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images of one colour each, (10 i, 0, 0), and sizes of their own; two more files cannot be read."""
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(7):
        Image.new("RGB", (20 + i, 30), (10 * i, 0, 0)).save(root / ("sub" if i % 2 else ".") / f"{i}.png")
    (root / "2b.jpg").write_bytes(b"")
    (root / "sub" / "z.png").write_text("text")
    return root


def embed(photos: Path, encoder: Any = None, **options: Any) -> Summary:
    images, output = find_images(photos), photos.with_name("photos.parquet")
    return embed_files(encoder or MeanColour(), images, output, root=photos, **{"quiet": True} | options)


def left(photos: Path) -> list[str]:
    return sorted(path.name for path in photos.parent.iterdir())


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_writes_embeddings_in_the_order_of_names_and_lists_what_cannot_be_read(photos: Path, batch_size: int) -> None:
    summary = embed(photos, batch_size=batch_size)
    table = read_table(photos.with_name("photos.parquet"))
    order = [0, 2, 4, 6, 1, 3, 5]
    assert table.paths == ["0.png", "2.png", "4.png", "6.png", "sub/1.png", "sub/3.png", "sub/5.png"]
    assert table.embeddings.tolist() == [[10.0 * i, 0.0, 0.0] for i in order]
    assert table.sizes.tolist() == [[20 + i, 30] for i in order]
    assert pq.read_table(photos.with_name("photos.errors.parquet")).to_pylist() == [
        {"path": "2b.jpg", "kind": "empty", "message": "the file has no bytes"},
        {
            "path": "sub/z.png",
            "kind": "not_an_image",
            "message": "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF)",
        },
    ]
    assert (summary.images, summary.unreadable, summary.width) == (7, 2, 3)
    assert (summary.output, summary.errors) == (
        photos.with_name("photos.parquet"),
        photos.with_name("photos.errors.parquet"),
    )
    assert left(photos) == ["photos", "photos.errors.parquet", "photos.parquet"]


def test_fp32_is_read_by_pillow_and_bf16_by_the_quick_decoder(
    photos: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[[int, int], Image.Image]
) -> None:
    picture(61, 47).save(photos / "a.jpg")
    decoded: list[str] = []

    def watch(self: Preprocessing, pixels: Any) -> Any:
        decoded.append(f"{pixels.shape[1]} x {pixels.shape[0]}")
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(Preprocessing, "quick_square", watch)
    rough = MeanColour()
    rough.precision = "bf16"
    embed(photos)
    exact = read_table(photos.with_name("photos.parquet"))
    assert decoded == []
    embed(photos, rough, overwrite=True)
    quick = read_table(photos.with_name("photos.parquet"))
    assert decoded == ["61 x 47"]  # of eight readable images, the one JPEG
    assert (exact.paths, exact.sizes.tolist()) == (quick.paths, quick.sizes.tolist())
    assert pq.read_table(photos.with_name("photos.errors.parquet")).num_rows == 2
    assert embed_images(rough, [photos / "a.jpg", photos / "0.png"])[0].tolist() == [0.0, 0.0, 0.0]


def test_the_table_says_where_it_is_from(photos: Path) -> None:
    embed(photos)
    provenance = read_table(photos.with_name("photos.parquet")).provenance
    assert (provenance.model, provenance.weights_sha256, provenance.precision) == ("mean", "00", "fp32")
    assert (provenance.space, provenance.root) == ("backbone", str(photos))
    assert Preprocessing.from_config(provenance.preprocessing) == MeanColour.preprocessing
    assert provenance.package_version == pauc_hub.__version__


def test_overwriting_removes_the_errors_of_an_earlier_run(photos: Path) -> None:
    embed(photos)
    (photos / "2b.jpg").unlink()
    (photos / "sub" / "z.png").unlink()
    summary = embed(photos, overwrite=True)
    assert (summary.unreadable, summary.errors) == (0, None)
    assert left(photos) == ["photos", "photos.parquet"]


def test_refuses_an_output_that_is_there_before_it_reads_anything(photos: Path) -> None:
    photos.with_name("photos.parquet").write_bytes(b"old")
    encoder = MeanColour()
    with pytest.raises(OutputExists):
        embed(photos, encoder)
    assert encoder.batches == []
    assert photos.with_name("photos.parquet").read_bytes() == b"old"


def test_fails_where_no_image_can_be_read_and_leaves_the_reasons(photos: Path) -> None:
    for path in photos.rglob("?.png"):
        path.write_bytes(b"")
    with pytest.raises(NoImages) as failure:
        embed(photos)
    assert str(failure.value) == (
        "none of 9 images could be read; '0.png': the file has no bytes. "
        f"All are listed in '{photos.with_name('photos.errors.parquet')}'."
    )
    assert left(photos) == ["photos", "photos.errors.parquet"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_leaves_nothing_when_it_is_stopped_halfway(photos: Path, stop: type[BaseException]) -> None:
    class Stops(MeanColour):
        def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
            if self.batches:
                raise stop
            return super().encode(batch, space)

    with pytest.raises(stop):
        embed(photos, Stops(), batch_size=2)
    assert left(photos) == ["photos"]


def test_an_image_that_vanishes_after_the_listing_is_a_row(photos: Path) -> None:
    images = find_images(photos)
    (photos / "0.png").unlink()
    summary = embed_files(MeanColour(), images, photos.with_name("t.parquet"), root=photos, quiet=True)
    errors = pq.read_table(photos.with_name("t.errors.parquet")).to_pylist()
    assert summary.images == 6
    assert errors[0] == {"path": "0.png", "kind": "missing", "message": "No such file or directory"}


def test_a_batch_too_large_for_the_gpu_says_what_to_do(photos: Path) -> None:
    class Small(MeanColour):
        def encode(self, batch: torch.Tensor, space: str) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nGPU 0 has …")

    with pytest.raises(PaucError, match=r"^a batch of 4 images does not fit the GPU\. Give a smaller --batch-size\.$"):
        embed(photos, Small(), batch_size=5)


# ---------------------------------------------------------------- decoding ahead


def test_results_come_in_order_however_long_each_takes() -> None:
    def read(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return -item

    assert list(decode_ahead(read, range(20), workers=4, ahead=6)) == [-item for item in range(20)]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 3), (8, 4)])
def test_never_further_ahead_than_asked(workers: int, ahead: int) -> None:
    begun, lock = 0, threading.Lock()

    def read(item: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return item

    for taken, _ in enumerate(decode_ahead(read, range(50), workers, ahead), start=1):
        time.sleep(0.001)
        assert taken <= begun < taken + ahead


def test_a_listing_without_end_is_no_problem() -> None:
    def forever() -> Iterator[int]:
        item = 0
        while True:
            yield item
            item += 1

    results = decode_ahead(lambda item: item, forever(), workers=2, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()


def test_threads_end_with_the_consumer() -> None:
    before = threading.active_count()
    results = decode_ahead(lambda item: time.sleep(0.01), range(1000), workers=4, ahead=100)
    next(results)
    results.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


# ---------------------------------------------------------------- images in memory


def test_paths_pictures_and_arrays_give_the_same(photos: Path) -> None:
    path = photos / "6.png"
    with Image.open(path) as picture:
        pixels, rgba = np.asarray(picture), np.asarray(picture.convert("RGBA"))
        sources: list[ImageSource] = [path, str(path), picture, pixels, rgba]
        embeddings = embed_images(MeanColour(), sources)
    assert embeddings.tolist() == [[60.0, 0.0, 0.0]] * 5


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_grey_arrays_of_every_kind(kind: type[np.generic]) -> None:
    white = {np.uint8: 255, np.uint16: 65535}.get(kind, 1.0)
    array = np.full((9, 9), white).astype(kind)
    assert embed_images(MeanColour(), [array]).tolist() == [[255.0] * 3]


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_as_many_rows_as_images(count: int, batch_size: int) -> None:
    arrays = (np.full((8, 8), i, np.uint8) for i in range(count))
    embeddings = embed_images(MeanColour(), arrays, batch_size=batch_size)
    assert embeddings.shape == (count, 3)
    assert embeddings.dtype == np.float32
    assert embeddings[:, 0].tolist() == list(range(count))


CANNOT = "image 1 cannot be read: an array of"
GIVE = "give (H, W, 3) uint8 in RGB order, or (H, W) for grey."
REFUSED: list[tuple[object, type[Exception], str]] = [
    ("gone.jpg", PaucError, "image 1 ('gone.jpg') cannot be read: No such file or directory."),
    (".", UsageError, "image 1 ('.') is a folder, not an image. For folders there is `pauc embed .`."),
    (7, TypeError, "image 1 is a int, not a path, PIL image or array"),
    (np.zeros((3, 8, 8), np.uint8), PaucError, f"{CANNOT} shape (3, 8, 8) and type uint8; {GIVE}"),
    (np.zeros((8, 8, 3)), PaucError, f"{CANNOT} shape (8, 8, 3) and type float64; {GIVE}"),
    (np.zeros((0, 8), np.uint8), PaucError, f"{CANNOT} shape (0, 8) and type uint8; {GIVE}"),
]


@pytest.mark.parametrize(("bad", "error", "message"), REFUSED, ids=lambda value: type(value).__name__)
def test_says_which_image_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Any, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refusal:
        embed_images(MeanColour(), [np.zeros((8, 8), np.uint8), bad])
    assert str(refusal.value) == message


def test_a_picture_that_was_never_fully_read_is_named(photos: Path) -> None:
    cut = (photos / "6.png").read_bytes()[:50]
    (photos / "6.png").write_bytes(cut)
    with Image.open(photos / "6.png") as picture, pytest.raises(PaucError, match=r"^image 0 cannot be read: "):
        embed_images(MeanColour(), [picture])
