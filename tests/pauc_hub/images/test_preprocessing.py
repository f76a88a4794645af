"""The evaluation transform against timm's own, by hand, and on strange shapes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform

from pauc_hub.errors import ModelFolderError
from pauc_hub.images.preprocessing import CROP_MODES, Preprocessing

Picture = Callable[[int, int], Image.Image]


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 7919 + height).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return Image.fromarray(pixels)


def timms(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    config = preprocessing.to_config() | {"input_size": (3, preprocessing.size, preprocessing.size)}
    result: torch.Tensor = create_transform(**config, is_training=False)(image)
    return result


def ours(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    return preprocessing.normalise(torch.from_numpy(preprocessing.square(image))[None])[0]


SMALL = Preprocessing(size=32, crop_pct=0.875)
SETTINGS = [
    SMALL,
    Preprocessing(size=32, crop_pct=1.0),
    Preprocessing(size=33, crop_pct=0.9, interpolation="bilinear"),
    Preprocessing(size=40, crop_pct=0.95, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
    Preprocessing(size=33, crop_pct=1.15),
    Preprocessing(size=32, crop_mode="squash"),
    Preprocessing(size=33, crop_pct=1.0, crop_mode="squash", interpolation="bilinear"),
    Preprocessing(size=32, crop_pct=0.9, crop_mode="border", mean=(0.5, 0.4, 0.3)),
    Preprocessing(size=33, crop_pct=1.0, crop_mode="border"),
]
SIZES = [
    (101, 67),
    (67, 101),
    (200, 200),
    (32, 32),
    (36, 36),
    (9, 14),
    (14, 9),
    (1, 1),
    (1, 20),
    (333, 12),
    (31, 37),
]


@pytest.mark.parametrize("preprocessing", SETTINGS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_equals_timms_evaluation_transform(
    preprocessing: Preprocessing, width: int, height: int
) -> None:
    image = noise(width, height)
    assert torch.equal(ours(preprocessing, image), timms(preprocessing, image))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(5, 150),
    height=st.integers(5, 150),
    crop_pct=st.floats(0.5, 1.2),
    crop_mode=st.sampled_from(CROP_MODES),
)
def test_equals_timms_evaluation_transform_at_any_size(
    width: int, height: int, crop_pct: float, crop_mode: str
) -> None:
    preprocessing = Preprocessing(size=24, crop_pct=crop_pct, crop_mode=crop_mode)
    image = noise(width, height)
    assert torch.equal(ours(preprocessing, image), timms(preprocessing, image))


def test_a_batch_is_normalised_image_by_image_and_rounded_at_the_end() -> None:
    batch = torch.randint(
        0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    whole = SMALL.normalise(batch)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(whole, torch.cat([SMALL.normalise(batch[i : i + 1]) for i in range(3)]))
    assert torch.equal(SMALL.normalise(batch, torch.bfloat16), whole.bfloat16())
    assert SMALL.normalise(batch[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("preprocessing", SETTINGS)
@pytest.mark.parametrize(("width", "height"), [*SIZES, (2000, 40), (40, 2000), (1500, 1000)])
def test_the_quick_square_is_within_2_of_255_levels(
    preprocessing: Preprocessing, width: int, height: int
) -> None:
    image = noise(width, height)
    exact, quick = preprocessing.square(image), preprocessing.quick_square(np.array(image))
    assert (quick.shape, quick.dtype) == (exact.shape, exact.dtype)
    assert np.abs(quick.astype(int) - exact).max() <= 2


def test_the_quick_square_is_no_further_off_on_smooth_pictures_at_any_size(
    picture: Picture,
) -> None:
    draws, apart = np.random.default_rng(0), []
    for width, height in draws.integers(20, 700, (100, 2)):
        image = picture(int(width), int(height))
        exact, quick = SMALL.square(image).astype(int), SMALL.quick_square(np.array(image))
        apart.append(np.abs(quick - exact))
    assert max(part.max() for part in apart) <= 2
    assert np.mean([part.mean() for part in apart]) < 0.1


def test_the_square_of_a_reduction_has_the_scale_of_the_whole() -> None:
    """A long side of 341 = int(256 * 2000 / 1501), not the 340 that 256 * 1000 / 751 would give."""
    reduction = np.array(noise(1000, 751))
    resized = np.array(Image.fromarray(reduction).resize((341, 256), Image.Resampling.BICUBIC))
    square = Preprocessing(224).quick_square(reduction, (2000, 1501))
    assert np.abs(square.astype(int) - resized[16:240, 58:282]).max() <= 2


@pytest.mark.parametrize("size", [(40, 2000), (2000, 40), (1, 33), (3, 1000)])
def test_long_strips_stay_within_3_of_255_levels_of_timm(size: tuple[int, int]) -> None:
    image = noise(*size)
    apart = (ours(SMALL, image) - timms(SMALL, image)).abs().max()
    assert apart <= 3.01 / 255 / min(SMALL.std)


@pytest.mark.parametrize("preprocessing", SETTINGS)
@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1)])
def test_strips_whose_resized_form_would_take_gigabytes_are_done_at_once(
    preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    assert preprocessing.square(noise(*size)).shape == (preprocessing.size, preprocessing.size, 3)


def test_square_is_writable_bytes_of_its_own() -> None:
    square = SMALL.square(noise(50, 40))
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert square.flags.writeable


def test_square_takes_rgb_alone() -> None:
    with pytest.raises(ValueError, match="mode L"):
        SMALL.square(Image.new("L", (40, 40)))


def test_normalise_by_hand() -> None:
    preprocessing = Preprocessing(size=1, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    batch = torch.tensor([[[[255, 0, 51]]], [[[0, 255, 255]]]], dtype=torch.uint8)
    numbers = preprocessing.normalise(batch)
    assert numbers.flatten(1).tolist() == [[1.0, -1.0, pytest.approx(0.1)], [-1.0, 3.0, 0.5]]


def test_normalise_keeps_channels_last_and_its_argument() -> None:
    batch = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    before = batch.clone()
    numbers = SMALL.normalise(batch)
    assert numbers.shape == (2, 3, 32, 32)
    assert numbers.dtype == torch.float32
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("preprocessing", SETTINGS)
def test_config_round_trip(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_config(preprocessing.to_config()) == preprocessing


def test_missing_keys_take_timms_defaults() -> None:
    assert Preprocessing.from_config(
        {"input_size": (3, 64, 64), "first_conv": "conv1"}
    ) == Preprocessing(64, 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


REFUSED = [
    ({"input_size": (3, 64, 32)}, "it makes images of 32 x 64"),
    ({"crop_mode": "zoom"}, "crop_mode is 'zoom', not one of center, squash, border"),
    ({"crop_pct": 2.5}, "crop_pct is 2.5, not in (0, 2]"),
    ({"interpolation": "lanczos"}, "interpolation is 'lanczos', not one of bicubic, bilinear"),
    ({"mean": (0.5,)}, "(0.5,) is not one number a colour"),
    ({"std": (0.5, 0.5, 0.0)}, "std is (0.5, 0.5, 0.0), not positive"),
]


@pytest.mark.parametrize(("config", "reason"), REFUSED)
def test_refuses_what_it_does_not_do(config: dict[str, object], reason: str) -> None:
    with pytest.raises(ModelFolderError) as refusal:
        Preprocessing.from_config(config)
    assert reason in str(refusal.value)


def test_names_all_problems_at_once() -> None:
    with pytest.raises(ModelFolderError, match=r"size is 0, .*; crop_pct is 0.0, "):
        Preprocessing(size=0, crop_pct=0.0)
