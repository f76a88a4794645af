"""Random resized crops: torchvision's boxes, Pillow's pixels, one picture or a batch."""

from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import resized_crop

from pauc_hub.images.decoding import read_with
from pauc_hub.images.jpeg import decode
from pauc_hub.training.config import Config
from pauc_hub.training.data.crops import boxes, cut, cut_batch
from pauc_hub.training.data.views import ViewDraws, draw_views

Noise = Callable[..., Image.Image]


def draws(
    count: int, smallest: float = 0.2, seed: int = 0, flip: float = 0.5, size: int = 32
) -> ViewDraws:
    return draw_views(
        Config(crop_min=smallest, flip=flip, size=size), count, torch.Generator().manual_seed(seed)
    )


def described(found: npt.NDArray[np.int64], width: int, height: int) -> npt.NDArray[np.float64]:
    """(count, 4): area and log aspect, and where the box lies within the room that it has."""
    left, top, right, bottom = found.astype(np.float64).T
    w, h = right - left, bottom - top
    return np.stack(
        [w * h / (width * height), np.log(w / h), left / (width - w + 1), top / (height - h + 1)],
        axis=1,
    )


def torchvisions(
    width: int, height: int, count: int, smallest: float = 0.2
) -> npt.NDArray[np.int64]:
    transform, image = v2.RandomResizedCrop(8, scale=(smallest, 1.0)), torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [transform.make_params([image]) for _ in range(count)]
    return np.array(
        [[b["left"], b["top"], b["left"] + b["width"], b["top"] + b["height"]] for b in found]
    )


@pytest.mark.parametrize(("width", "height"), [(320, 240), (211, 307)])
def test_boxes_are_distributed_as_torchvisions(width: int, height: int) -> None:
    count = 4000
    ours = described(boxes(draws(count), width, height), width, height)
    theirs = described(torchvisions(width, height, count), width, height)
    for mine, other in zip(ours.T, theirs.T, strict=True):
        points = np.concatenate([mine, other])
        shares = [
            np.searchsorted(np.sort(each), points, side="right") / count for each in (mine, other)
        ]
        # Kolmogorov and Smirnov's statistic of two samples, with room for one chance in a million
        assert np.abs(shares[0] - shares[1]).max() < 2.7 * (2 / count) ** 0.5
    assert np.abs(np.corrcoef(ours.T) - np.corrcoef(theirs.T)).max() < 0.09


@pytest.mark.parametrize(
    ("size", "box"), [((400, 10), (193, 0, 206, 10)), ((10, 400), (0, 193, 10, 206))]
)
def test_where_no_crop_fits_the_central_one_is_taken(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert boxes(draws(3, smallest=1.0), *size).tolist() == [list(box)] * 3
    assert torchvisions(*size, 3, smallest=1.0).tolist() == [list(box)] * 3


def test_a_larger_smallest_share_shows_more() -> None:
    shares = []
    for smallest in (0.1, 0.5, 0.9):
        found = described(boxes(draws(300, smallest), 200, 200), 200, 200)[:, 0]
        assert found.min() > smallest - 0.01
        shares.append(found.mean())
    assert all(less < more for less, more in pairwise(shares))


def test_rows_have_boxes_of_their_own() -> None:
    some = draws(20)
    every = boxes(some, 64, 48)
    assert len(np.unique(every, axis=0)) > 15
    assert (
        boxes(some, 64, 48, slice(3, 7)).tolist()
        == boxes(some[3:7], 64, 48).tolist()
        == every[3:7].tolist()
    )


def expected(picture: Image.Image, some: ViewDraws, row: int, size: int) -> npt.NDArray[np.uint8]:
    left, top, right, bottom = boxes(some, *picture.size)[row].tolist()
    found = resized_crop(
        picture, top, left, bottom - top, right - left, [size, size], InterpolationMode.BILINEAR
    )
    return np.asarray(
        found.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if some.mirrored[row] else found
    )


@pytest.mark.parametrize("size", [8, 100])
def test_a_picture_is_cut_as_torchvision_does_it(noise: Noise, size: int) -> None:
    picture, some = noise(0, 64, 48), draws(10, size=size)
    file = BytesIO()
    picture.save(file, "JPEG", quality=95)
    photograph, decoded = Image.open(file).convert("RGB"), read_with(decode, file)
    assert isinstance(decoded, np.ndarray)
    assert len(set(some.mirrored.tolist())) == 2
    for row in range(10):
        assert cut(picture, some, row).tolist() == expected(picture, some, row, size).tolist()
        difference = cut(decoded, some, row).astype(int) - expected(photograph, some, row, size)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(32, 32), (64, 48), (20, 50)])
@pytest.mark.parametrize("size", [16, 32, 40])
def test_a_batch_is_cut_as_pillow_cuts_each_picture(
    noise: Noise, width: int, height: int, size: int
) -> None:
    pictures, some = [noise(i, width, height) for i in range(24)], draws(24, smallest=0.05)
    found = cut_batch(
        lines(pictures), torch.from_numpy(boxes(some, width, height)), some.mirrored, size
    )
    assert (found.shape, found.dtype) == ((24, 3, size, size), torch.uint8)
    each = np.stack([expected(picture, some, row, size) for row, picture in enumerate(pictures)])
    assert np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - each).max() <= 1


def lines(pictures: Sequence[Image.Image]) -> Tensor:
    return torch.from_numpy(
        np.stack([np.asarray(picture).transpose(0, 2, 1) for picture in pictures])
    )


def test_a_part_of_a_batch_is_cut_as_within_the_whole(noise: Noise) -> None:
    pictures, some = lines([noise(i, 32, 32) for i in range(12)]), draws(12)
    edges = torch.from_numpy(boxes(some, 32, 32))
    whole = cut_batch(pictures, edges, some.mirrored, 24)
    assert cut_batch(pictures[5:8], edges[5:8], some.mirrored[5:8], 24).equal(whole[5:8])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_the_smallest_images_can_be_cropped(size: tuple[int, int]) -> None:
    some, picture = draws(20, size=4), Image.new("RGB", size, (9, 8, 7))
    assert all((cut(picture, some, row) == (9, 8, 7)).all() for row in range(20))
    edges = torch.from_numpy(boxes(some, *size))
    batch = cut_batch(lines([picture] * 20), edges, some.mirrored, 4)
    assert (batch.permute(0, 2, 3, 1) == torch.tensor([9, 8, 7], dtype=torch.uint8)).all()
