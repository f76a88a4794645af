"""Image sources and batches: what is found, what becomes of unreadable images, order whatever the threads do."""

import io
import tarfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from pauc_hub.errors import NoImages, TrainingFailed, UsageError
from pauc_hub.preprocess import Preprocessing
from pauc_hub.training import data
from pauc_hub.training.data import ImageSource, Loader, TwoViews, open_source, random_resized_crop

SQUARE = Preprocessing(size=8, crop_pct=0.875)
NOT_AN_IMAGE = "not an image of a known format (JPEG, PNG, WEBP, TIFF, BMP, GIF)"


def noise(index: int, width: int = 16, height: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(index: int) -> bytes:
    file = io.BytesIO()
    noise(index).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is a parameter here
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def twelve(tmp_path: Path) -> ImageSource:
    """00.png to 11.png, of which 03 and 04 are no images."""
    files = {f"{i:02}.png": b"text" if i in (3, 4) else png(i) for i in range(12)}
    return open_source(write_folder(tmp_path / "images", files))


def views(
    source: ImageSource, batches: Sequence[Sequence[int]], workers: int = 2, seed: int = 0, epoch: int = 0
) -> list[TwoViews]:
    return list(Loader(source, SQUARE, workers).views(batches, 0.2, seed, epoch))


def by_image(batches: list[TwoViews]) -> dict[int, bytes]:
    """Both crops of each image."""
    rows = [row for batch in batches for row in zip(batch.index.tolist(), batch.first, batch.second, strict=True)]
    return {index: first.numpy().tobytes() + second.numpy().tobytes() for index, first, second in rows}


# --- what is found


def test_a_folder_of_any_nesting_in_the_order_of_names(tmp_path: Path) -> None:
    files = {"b.png": png(0), "a/deep/er/c.png": png(1), "a.png": png(2), "notes.txt": b"", ".hidden/d.png": png(3)}
    source = open_source(write_folder(tmp_path / "photos", files))
    assert source.names == ["a.png", "a/deep/er/c.png", "b.png"]
    read = source.read(1)
    assert read is not None
    assert read.tobytes() == noise(1).tobytes()


def test_a_tar_is_read_in_place_in_the_order_of_names(tmp_path: Path) -> None:
    files = {
        "z.png": png(0),
        "sub/a.PNG": png(1),
        "readme.txt": b"",
        ".hidden/b.png": png(2),
        "sub/._a.png": b"resource fork",
        "./c.png": png(3),
    }
    source = open_source(write_tar(tmp_path / "photos.tar", files))
    assert source.names == ["photos.tar/./c.png", "photos.tar/sub/a.PNG", "photos.tar/z.png"]
    images = [source.read(index) for index in range(3)]
    assert [image and image.tobytes() for image in images] == [noise(index).tobytes() for index in (3, 1, 0)]


def test_a_folder_of_tars(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    write_tar(root / "1.tar", {"b.png": png(1), "a.png": png(0)})
    write_tar(root / "0.tar", {"c.png": png(2)})
    write_tar(root / ".partial.tar", {"d.png": png(3)})
    (root / "folder.tar").mkdir()
    source = open_source(root)
    assert source.names == ["0.tar/c.png", "1.tar/a.png", "1.tar/b.png"]
    image = source.read(2)
    assert image is not None
    assert image.tobytes() == noise(1).tobytes()


def test_a_tars_links_and_folders_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as tar:
        link, folder = tarfile.TarInfo("link.png"), tarfile.TarInfo("folder.png")
        link.type, link.linkname, folder.type = tarfile.SYMTYPE, "a.png", tarfile.DIRTYPE
        tar.addfile(link)
        tar.addfile(folder)
    with pytest.raises(NoImages, match=r"photos\.tar': no tar member there ends in \.bmp, \.gif, .*, \.webp\.$"):
        open_source(path)


@pytest.mark.parametrize(("name", "mode"), [("photos.tar.gz", "w:gz"), ("photos.tar", "w:xz"), ("photos.tgz", "w:gz")])
def test_a_compressed_tar_is_refused(tmp_path: Path, name: str, mode: str) -> None:
    path = write_tar(tmp_path / name, {"a.png": png(0)}, mode)
    with pytest.raises(UsageError) as refused:
        open_source(path)
    assert str(refused.value).startswith(f"'{path}' is neither a folder nor a readable uncompressed tar (")
    assert str(refused.value).endswith("). Unpack it, or write it anew without compression.")
    assert "\n" not in str(refused.value)


def test_a_cut_tar_and_a_single_image_are_refused(tmp_path: Path) -> None:
    cut = write_tar(tmp_path / "cut.tar", {"a.png": png(0), "b.png": png(1)})
    cut.write_bytes(cut.read_bytes()[:700])
    for path in (cut, write_folder(tmp_path, {"a.png": png(0)}) / "a.png"):
        with pytest.raises(UsageError, match="is neither a folder nor a readable uncompressed tar"):
            open_source(path)


def test_tars_beside_images_are_refused_because_either_could_be_meant(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "photos", {"sub/a.png": png(0)})
    write_tar(root / "backup.tar", {"a.png": png(0)})
    with pytest.raises(UsageError) as refused:
        open_source(root)
    assert str(refused.value) == f"'{root}' holds tar files (backup.tar) beside images. Give one kind or the other."


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nowhere", UsageError, "no such file"),
        ("nowhere.tar", UsageError, "no such file"),
        (".", NoImages, "no images"),
    ],
)
def test_nothing_there_is_one_line(tmp_path: Path, name: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_source(tmp_path / name)


def test_the_fingerprint_is_of_the_names_and_their_order(tmp_path: Path) -> None:
    first, same, other = (
        open_source(write_folder(tmp_path / root, {name: png(0), "c.png": png(0)}))
        for root, name in (("one", "a.png"), ("two", "a.png"), ("three", "b.png"))
    )
    assert first.fingerprint() == same.fingerprint()
    assert first.fingerprint() != other.fingerprint()
    assert ImageSource(Path(), ["b", "a"], []).fingerprint() != ImageSource(Path(), ["a", "b"], []).fingerprint()
    assert len(ImageSource(Path(), ["\udcff"], []).fingerprint()) == 64  # a name that is not UTF-8


# --- unreadable images


def test_an_unreadable_image_is_replaced_by_the_next_readable_one(twelve: ImageSource) -> None:
    [batch] = views(twelve, [[2, 3, 4, 5]])
    assert batch.index.tolist() == [2, 5, 5, 5]
    assert batch.first[1].equal(batch.first[3])
    assert twelve.unreadable == {3: NOT_AN_IMAGE, 4: NOT_AN_IMAGE}


def test_after_the_last_image_comes_the_first(twelve: ImageSource) -> None:
    twelve.places[11] = twelve.places[3]
    at, image = twelve.read_or_next(11)
    assert at == 0
    assert image.tobytes() == noise(0).tobytes()


def test_an_unreadable_image_is_tried_once(twelve: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def read(path: Path) -> Image.Image:
        tried.append(path)
        return noise(0)

    monkeypatch.setattr(data, "read_image", read)
    twelve.unreadable[3] = "known"
    assert twelve.read_or_next(3)[0] == 4
    assert tried == [twelve.places[4]]


def test_training_fails_where_nothing_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "images"
    source = open_source(write_folder(root, {f"{i}.png": b"" for i in range(3)}))
    with pytest.raises(TrainingFailed) as failed:
        views(source, [[1, 0]])
    assert str(failed.value) == (
        f"none of 3 images from '1.png' on can be read (the file has no bytes). Is '{root}' intact?"
    )


def test_at_most_a_hundred_neighbours_are_tried() -> None:
    many = ImageSource(Path("photos"), [str(i) for i in range(500)], [Path(f"/nowhere/{i}") for i in range(500)])
    with pytest.raises(TrainingFailed, match="none of 100 images from '7' on can be read"):
        many.read_or_next(7)
    assert sorted(many.unreadable) == list(range(7, 107))


def test_images_that_vanish_after_listing_are_unreadable(twelve: ImageSource, tmp_path: Path) -> None:
    (tmp_path / "images" / "06.png").unlink()
    [batch] = views(twelve, [[6, 8]])
    assert batch.index.tolist() == [7, 8]
    assert twelve.unreadable == {6: "No such file or directory"}


def test_a_tar_that_vanishes_after_listing_is_unreadable(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "photos.tar", {"a.png": png(0)})
    source = open_source(path)
    path.unlink()
    assert source.read(0) is None
    assert source.unreadable[0].startswith("[Errno 2] No such file")


def test_squares_are_the_evaluation_transform_and_black_where_unreadable(twelve: ImageSource) -> None:
    batches = list(Loader(twelve, SQUARE, 2).squares([[0, 3, 1], [11]]))
    assert [readable.tolist() for _, readable in batches] == [[True, False, True], [True]]
    (pixels, _), (last, _) = batches
    assert pixels.shape == (3, 8, 8, 3)
    assert pixels.dtype == torch.uint8
    expected = [SQUARE.square(noise(0)), np.zeros((8, 8, 3), np.uint8), SQUARE.square(noise(1))]
    assert pixels.numpy().tolist() == np.stack(expected).tolist()
    assert last.numpy().tolist() == [SQUARE.square(noise(11)).tolist()]
    assert list(twelve.unreadable) == [3]


# --- crops and their order


def test_an_images_crops_depend_on_seed_epoch_and_image_alone(twelve: ImageSource) -> None:
    good = [0, 1, 2, 5, 6, 7, 8]
    reference = by_image(views(twelve, [good]))
    for workers, batches in ((1, [good]), (3, [good[::-1]]), (5, [good[:2], good[2:3], good[3:]])):
        assert by_image(views(twelve, batches, workers)) == reference
    assert all(by_image(views(twelve, [good], seed=1))[index] != reference[index] for index in good)
    assert all(by_image(views(twelve, [good], epoch=1))[index] != reference[index] for index in good)


def test_the_two_views_differ(twelve: ImageSource) -> None:
    [batch] = views(twelve, [[0, 1, 2]])
    assert (batch.first.shape, batch.first.dtype, batch.index.dtype) == ((3, 8, 8, 3), torch.uint8, torch.int64)
    assert all(not first.equal(second) for first, second in zip(batch.first, batch.second, strict=True))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_rows_and_batches_keep_their_order_for_any_number_of_workers(workers: int) -> None:
    loader = Loader(ImageSource(Path(), [], []), SQUARE, workers)
    batches = [[9, 4, 7, 1, 3], [2], [], [5, 6]] + [[i, i + 1] for i in range(20)]
    assert list(loader._read_ahead(batches, lambda index: index)) == batches


def test_reading_stays_a_few_batches_ahead() -> None:
    loader, started = Loader(ImageSource(Path(), [], []), SQUARE, 2), []

    def one(index: int) -> int:
        started.append(index)
        return index

    with closing(loader._read_ahead([[i] for i in range(50)], one)) as ahead:
        for wanted in range(3):
            assert next(ahead) == [wanted]
            assert max(started) <= wanted + data.BATCHES_AHEAD


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_closing_early_leaves_no_threads(twelve: ImageSource) -> None:
    loader, many = Loader(twelve, SQUARE, 3), [[0, 1]] * 30
    for batches in (loader.views(many, 0.2, 0, 0), loader.squares(many)):
        with closing(batches):
            next(iter(batches))
            assert decoders()
        assert decoders() == []


def test_a_failure_in_a_thread_reaches_the_reader_and_leaves_no_threads() -> None:
    loader = Loader(ImageSource(Path(), [], []), SQUARE, 2)
    with pytest.raises(ZeroDivisionError):
        list(loader._read_ahead([[1, 2], [0, 3], [4]], lambda index: 1 / index))
    assert decoders() == []


# --- random resized crops


Boxes = npt.NDArray[np.float64]


def boxes(width: int, height: int, count: int) -> Boxes:
    """(count, 4): area and log aspect, and where the box lies within the room it has, of our crops."""
    draws = np.random.default_rng(0)
    found = [data._random_box(width, height, 0.2, draws) for _ in range(count)]
    return described([box for box in found if box], width, height)


def reference_boxes(width: int, height: int, count: int) -> Boxes:
    """The same of torchvision's."""
    image = Image.new("RGB", (width, height))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    return described([(left, top, left + w, top + h) for top, left, h, w in drawn], width, height)


def described(found: Sequence[tuple[int, int, int, int]], width: int, height: int) -> Boxes:
    left, top, right, bottom = np.array(found, dtype=np.float64).T
    w, h = right - left, bottom - top
    return np.stack([w * h / (width * height), np.log(w / h), left / (width - w + 1), top / (height - h + 1)], axis=1)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (211, 307)])
def test_crops_are_distributed_as_torchvisions(width: int, height: int) -> None:
    count = 3000
    ours, theirs = boxes(width, height, count), reference_boxes(width, height, count)
    assert len(ours) > 0.99 * count
    for mine, other in zip(ours.T, theirs.T, strict=True):
        points = np.sort(np.concatenate([mine, other]))
        shares = (np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (mine, other))
        # Kolmogorov and Smirnov's statistic of two samples, with room for one chance in a million
        assert np.abs(np.subtract(*shares)).max() < 2.7 * (2 / count) ** 0.5


@pytest.mark.parametrize(("size", "box"), [((400, 10), (193, 0, 206, 10)), ((10, 400), (0, 193, 10, 206))])
def test_where_no_crop_fits_torchvisions_central_one_is_taken(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    width, height = size
    assert data._random_box(width, height, 1.0, np.random.default_rng(0)) is None
    assert data._central_box(width, height) == box
    top, left, h, w = RandomResizedCrop.get_params(Image.new("RGB", size), [1.0, 1.0], [3 / 4, 4 / 3])
    assert (left, top, left + w, top + h) == box


def test_a_crop_is_cut_and_resized_as_torchvision_does_with_a_picture() -> None:
    image, box = noise(0, 64, 48), data._random_box(64, 48, 0.2, np.random.default_rng(3))
    assert box is not None
    left, top, right, bottom = box
    expected = resized_crop(image, top, left, bottom - top, right - left, [8, 8], InterpolationMode.BILINEAR)
    found = random_resized_crop(image, 8, 0.2, np.random.default_rng(3))
    assert found.tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_the_smallest_images_can_be_cropped(size: tuple[int, int]) -> None:
    draws = np.random.default_rng(0)
    crops = [random_resized_crop(Image.new("RGB", size, (9, 8, 7)), 4, 0.2, draws) for _ in range(20)]
    assert all(crop.shape == (4, 4, 3) and (crop == (9, 8, 7)).all() for crop in crops)


def test_a_larger_smallest_share_shows_more() -> None:
    draws = np.random.default_rng(0)
    shares = []
    for smallest in (0.1, 0.5, 0.9):
        found = [data._random_box(200, 200, smallest, draws) for _ in range(300)]
        areas = [(box[2] - box[0]) * (box[3] - box[1]) / 200**2 for box in found if box]
        assert min(areas) > smallest - 0.01
        shares.append(np.mean(areas))
    assert all(less < more for less, more in pairwise(shares))
