"""Images in memory or streamed: which of the two, and the same views and squares from both."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.errors import Interrupted, TrainingFailed
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources.by_index import ImageSource, open_by_index
from pauc_hub.training.data import Loader, Views, resident
from pauc_hub.training.data.resident import Resident, choose_loader
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.data.views import Batch
from pauc_hub.training.interruption import StopRequest

CPU = torch.device("cpu")
SQUARE = Preprocessing(size=8, crop_pct=0.875)
Draw = Callable[..., Batch]
Write = Callable[..., Path]
GOOD = [0, 1, 2, 5, 6, 7, 8]


def chosen(
    source: ImageSource, preprocessing: Preprocessing = SQUARE, most: int | None = None
) -> Loader:
    return choose_loader(source, preprocessing, 2, CPU, StopRequest(), quiet=True, most=most)


def streamed(source: ImageSource, workers: int = 2) -> Loader:
    return Streamed(source, SQUARE, workers, CPU)


BOTH = pytest.mark.parametrize("make", [streamed, chosen], ids=["streamed", "resident"])
Loaders = Callable[[ImageSource], Loader]


def one(loader: Loader, batch: Batch) -> Views:
    [found] = loader.views([batch])
    return found


def differences(a: torch.Tensor, b: torch.Tensor) -> int:
    return int((a.int() - b.int()).abs().max())


# --- which of the two


def folder(root: Path, sizes: Sequence[tuple[int, int]]) -> ImageSource:
    root.mkdir()
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (i, 0, 0)).save(root / f"{i:03}.png")
    return open_by_index(root, quiet=True)


def test_images_of_one_small_size_lie_in_memory(tmp_path: Path) -> None:
    source = folder(tmp_path / "same", [(16, 12)] * 40)
    loader = chosen(source)
    assert isinstance(loader, Resident)
    assert loader.images.shape == (40, 12, 3, 16)
    assert loader.images[:, 0, 0, 0].tolist() == list(range(40))
    assert loader.seconds > 0


@pytest.mark.parametrize("odd", [0, 21, 39])
def test_one_of_another_size_and_all_are_streamed(tmp_path: Path, odd: int) -> None:
    sizes = [(16, 12)] * 40
    sizes[odd] = (12, 16)
    assert isinstance(chosen(folder(tmp_path / "odd", sizes)), Streamed)


@pytest.mark.parametrize(
    ("size", "fits"), [((16, 16), True), ((17, 16), False), ((16, 17), False), ((1, 16), True)]
)
def test_much_larger_than_the_views_are_streamed(
    tmp_path: Path, size: tuple[int, int], fits: bool
) -> None:
    assert isinstance(chosen(folder(tmp_path / "large", [size] * 3)), Resident) == fits


def test_what_does_not_fit_the_memory_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, needed = folder(tmp_path / "same", [(16, 12)] * 40), 40 * 16 * 12 * 3
    for free, fits in ((4 * needed, True), (4 * needed - 1, False)):
        monkeypatch.setattr(resident, "free_device_memory", lambda _, free=free: free)
        assert isinstance(chosen(source), Resident) == fits


def test_where_none_of_those_looked_at_can_be_read_they_are_streamed(
    tmp_path: Path, write_files: Write
) -> None:
    source = open_by_index(
        write_files(tmp_path / "x", {f"{i}.png": b"" for i in range(3)}), quiet=True
    )
    assert isinstance(chosen(source), Streamed)


def test_a_stop_while_they_are_read_is_heeded(twelve: ImageSource) -> None:
    stop = StopRequest()
    stop.requested = True
    with pytest.raises(Interrupted, match="nothing was learnt meanwhile"):
        choose_loader(twelve, SQUARE, 2, CPU, stop, quiet=True)


def test_for_a_rehearsal_some_stand_in_for_all(twelve: ImageSource, drawn: Draw) -> None:
    loader = chosen(twelve, most=5)
    assert isinstance(loader, Resident)
    assert len(loader.images) == 5
    # 3 and 4 cannot be read
    assert one(loader, drawn([1, 5, 6, 8, 11])).index.tolist() == [1, 0, 1, 0, 1]
    [(pixels, readable)] = loader.squares([range(12)])
    assert readable.tolist() == [True, True, True, False, False] * 2 + [True, True]
    assert pixels[6].equal(pixels[1])


# --- the same from both


def test_both_show_the_same_views_but_for_rounding(twelve: ImageSource, drawn: Draw) -> None:
    for size in (8, 12, 16):
        preprocessing = Preprocessing(size=size)
        held = chosen(twelve, preprocessing)
        assert isinstance(held, Resident)
        for seed in range(4):
            batch = drawn([*GOOD, 3], size, seed, crop_min=0.05)
            a, b = one(held, batch), one(Streamed(twelve, preprocessing, 3, CPU), batch)
            assert a.index.tolist() == b.index.tolist() == [*GOOD, 5]
            assert a.draws is b.draws is batch.draws
            for mine, other in ((a.first, b.first), (a.second, b.second)):
                assert mine.shape == other.shape == (8, 3, size, size)
                assert mine.dtype == other.dtype == torch.uint8
                assert differences(mine, other) <= 1
            assert differences(a.first, a.second) > 50  # noise, cut otherwise


def test_both_show_the_same_small_views(twelve: ImageSource, drawn: Draw) -> None:
    batch, preprocessing = drawn(GOOD, 16, small_views=2, small_view_size=6), Preprocessing(size=16)
    held = one(chosen(twelve, preprocessing), batch)
    read = one(Streamed(twelve, preprocessing, 3, CPU), batch)
    assert [each.shape for each in held.small] == [(7, 3, 6, 6)] * 2
    for mine, other in zip(held.small, read.small, strict=True):
        assert differences(mine, other) <= 1
    assert differences(*held.small) > 50
    assert held.draws is batch.draws


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_both_show_the_same_squares_but_for_rounding(
    tmp_path: Path, kind: str, crop_pct: float
) -> None:
    preprocessing = Preprocessing(size=32, crop_pct=crop_pct)
    for i in range(5):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((50, 40)).save(tmp_path / f"{i}.{kind.lower()}", kind)
    source = open_by_index(tmp_path, quiet=True)
    held = chosen(source, preprocessing)
    assert isinstance(held, Resident)
    [(mine, _)], [(other, _)] = (
        list(loader.squares([[0, 3, 1]]))
        for loader in (held, Streamed(source, preprocessing, 2, CPU))
    )
    assert mine.shape == other.shape == (3, 32, 32, 3)
    assert differences(mine, other) <= 2
    with Image.open(tmp_path / f"3.{kind.lower()}") as image:
        assert other[1].tolist() == preprocessing.square(image).tolist()


@BOTH
def test_squares_are_black_where_unreadable(twelve: ImageSource, make: Loaders) -> None:
    batches = list(make(twelve).squares([[0, 3, 1], [11]]))
    assert [readable.tolist() for _, readable in batches] == [[True, False, True], [True]]
    (pixels, _), (last, _) = batches
    assert (pixels.shape, pixels.dtype) == ((3, 8, 8, 3), torch.uint8)
    assert [bool(each.any()) for each in pixels] == [True, False, True]
    expected = SQUARE.square(Image.open(Path(twelve.root) / "11.png"))
    assert differences(last[0], torch.from_numpy(expected)) <= 2
    assert 3 in twelve.unreadable


@BOTH
def test_an_unreadable_image_gives_way_to_the_next(
    twelve: ImageSource, drawn: Draw, make: Loaders
) -> None:
    batch = drawn([2, 3, 4, 5], flip=0.0, crop_min=1.0)
    found = one(make(twelve), batch)
    assert found.index.tolist() == [2, 5, 5, 5]
    assert {3, 4} <= set(twelve.unreadable) <= {3, 4}


@BOTH
def test_training_fails_where_nothing_can_be_read(
    tmp_path: Path, drawn: Draw, make: Loaders, write_files: Write
) -> None:
    source = open_by_index(
        write_files(tmp_path / "images", {f"{i}.png": b"" for i in range(3)}), quiet=True
    )
    with pytest.raises(TrainingFailed) as failed:
        one(make(source), drawn([1, 0]))
    assert str(failed.value) == (
        "none of 3 images from '1.png' on can be read (the file has no bytes). Is "
        f"'{source.root}' intact?"
    )


@BOTH
def test_a_part_of_a_batch_is_the_same_rows_of_the_whole(
    twelve: ImageSource, drawn: Draw, make: Loaders
) -> None:
    loader, batch = make(twelve), drawn(GOOD)
    whole, part = one(loader, batch), one(loader, batch[2:5])
    assert part.index.equal(whole.index[2:5])
    assert part.first.equal(whole.first[2:5])
    assert part.second.equal(whole.second[2:5])


def test_the_number_of_workers_changes_nothing(twelve: ImageSource, drawn: Draw) -> None:
    batches = [drawn(GOOD), drawn(GOOD[::-1], seed=1)]
    reference = list(streamed(twelve).views(batches))
    for workers in (1, 3, 5):
        for found, expected in zip(
            streamed(twelve, workers).views(batches), reference, strict=True
        ):
            assert found.first.equal(expected.first)
            assert found.second.equal(expected.second)
            assert found.index.equal(expected.index)


def test_images_that_vanish_while_streamed_are_unreadable(twelve: ImageSource, drawn: Draw) -> None:
    (Path(twelve.root) / "06.png").unlink()
    assert one(streamed(twelve), drawn([6, 8])).index.tolist() == [7, 8]
    assert twelve.unreadable == {6: "No such file or directory"}


def test_a_photograph_is_streamed_as_pillow_decodes_it(tmp_path: Path, drawn: Draw) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(coarse).resize((90, 70)).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    Image.open(file).convert("RGB").save(tmp_path / "b.png")
    source = open_by_index(tmp_path, quiet=True)
    found = one(streamed(source), drawn([0, 1]))
    again = one(streamed(source), drawn([1, 0]))
    assert differences(found.first, again.first) <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_shows_the_same_views_and_squares(twelve: ImageSource, drawn: Draw) -> None:
    device = torch.device("cuda")
    held = choose_loader(twelve, SQUARE, 2, device, StopRequest(), quiet=True)
    assert isinstance(held, Resident)
    batch = drawn(GOOD)
    expected, [(squares, _)] = one(streamed(twelve), batch), list(streamed(twelve).squares([GOOD]))
    for loader in (held, Streamed(twelve, SQUARE, 2, device)):
        found = one(loader, batch)
        assert found.first.is_cuda
        assert found.index.tolist() == GOOD
        assert differences(found.first.cpu(), expected.first) <= 1
        assert differences(found.second.cpu(), expected.second) <= 1
        [(pixels, readable)] = loader.squares([GOOD])
        assert differences(pixels.cpu(), squares) <= 2
        assert bool(readable.all())
