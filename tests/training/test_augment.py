"""The second half of a view: torchvision's arithmetic, a draw of its own for each image, and the same from one seed."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from pauc_hub.training import augment as module
from pauc_hub.training.augment import LUMA, Augmentation, blur, flip, recolour

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFF: dict[str, Any] = {
    "flip": 0.0,
    "jitter": (0.0, 0.0, 0.0, 0.0),
    "jitter_probability": 0.0,
    "grey": 0.0,
    "blur": 0.0,
    "mean": MEAN,
    "std": STD,
}
ALL: dict[str, Any] = OFF | {
    "flip": 0.5,
    "jitter": (0.4, 0.4, 0.4, 0.1),
    "jitter_probability": 0.8,
    "grey": 0.2,
    "blur": 0.5,
}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soft(count: int, side: int = 9) -> Tensor:
    """(count, side, side, 3) in [0.4, 0.6], so that mild changes clip nothing."""
    return 0.4 + 0.2 * torch.rand(count, side, side, 3, generator=draws())


def crops(count: int, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), generator=draws(), dtype=torch.uint8)


def planes(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def recoloured(
    images: Tensor, brightness: float = 1, contrast: float = 1, saturation: float = 1, hue: float = 0
) -> Tensor:
    factors = (torch.full((len(images),), float(each)) for each in (brightness, contrast, saturation, hue))
    return recolour(images, *factors)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
    ],
)
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_each_factor_is_torchvisions(name: str, change: Any, factor: float) -> None:
    images = soft(3)
    expected = change(planes(images), factor)
    torch.testing.assert_close(planes(recoloured(images, **{name: factor})), expected, atol=2e-4, rtol=0)


def test_the_factors_act_in_torchvisions_order() -> None:
    images = soft(3)
    expected = reference.adjust_brightness(planes(images), 0.7)
    expected = reference.adjust_saturation(reference.adjust_contrast(expected, 1.4), 1.3)
    torch.testing.assert_close(planes(recoloured(images, 0.7, 1.4, 1.3)), expected, atol=3e-4, rtol=0)


def test_no_saturation_is_greyscale() -> None:
    images = soft(3)
    expected = reference.rgb_to_grayscale(planes(images), num_output_channels=3)
    torch.testing.assert_close(planes(recoloured(images, saturation=0)), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("turns", [0.0, 1.0, -2.0])
def test_a_full_turn_of_the_hue_changes_nothing(turns: float) -> None:
    images = soft(3)
    torch.testing.assert_close(recoloured(images, hue=turns), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [-0.1, 0.03, 0.3])
def test_the_hue_turns_and_keeps_luma(turns: float) -> None:
    images = soft(3)
    turned = recoloured(images, hue=turns)
    torch.testing.assert_close(turned @ LUMA, images @ LUMA, atol=1e-5, rtol=0)
    assert (turned - images).abs().max() > 0.01


def test_opposite_hues_cancel_to_grey_and_turns_add_up() -> None:
    images = soft(3)
    grey = (images @ LUMA).unsqueeze(-1).expand_as(images)
    torch.testing.assert_close((images + recoloured(images, hue=0.5)) / 2, grey, atol=1e-5, rtol=0)
    twice = recoloured(recoloured(images, hue=0.1), hue=0.15)
    torch.testing.assert_close(twice, recoloured(images, hue=0.25), atol=1e-5, rtol=0)


def test_each_image_has_factors_of_its_own() -> None:
    images = soft(2)
    brightness, one, zero = torch.tensor([0.5, 1.2]), torch.ones(2), torch.zeros(2)
    changed = recolour(images, brightness, one, one, zero)
    torch.testing.assert_close(changed, images * brightness.view(2, 1, 1, 1))


def test_colours_are_clipped_once_at_the_end() -> None:
    images = torch.rand(2, 5, 5, 3, generator=draws())
    changed = recoloured(images, brightness=1.4, contrast=1.4, saturation=1.4)
    assert (changed.min().item(), changed.max().item()) == (0.0, 1.0)
    torch.testing.assert_close(recoloured(images, brightness=2.0), (2 * images).clamp(0, 1))


def test_the_chosen_are_mirrored_left_to_right() -> None:
    images = crops(3)
    mirrored = flip(images, torch.tensor([True, False, True]))
    assert mirrored[0].equal(images[0].flip(1))
    assert mirrored[1].equal(images[1])
    assert mirrored[2].equal(images[2].flip(1))


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.3])
def test_blur_is_torchvisions(sigma: float) -> None:
    images = torch.rand(2, 9, 9, 3, generator=draws())
    side = 2 * max(1, int(np.ceil(3 * sigma))) + 1
    expected = reference.gaussian_blur(planes(images), [side, side], [sigma, sigma])
    torch.testing.assert_close(planes(blur(images, torch.tensor([sigma, sigma]))), expected, atol=1e-5, rtol=0)


def test_each_image_has_a_blur_of_its_own() -> None:
    images = torch.rand(3, 12, 12, 3, generator=draws())
    sigmas = [0.3, 1.7, 0.9]  # the window is the widest one's: 6 pixels to each side
    blurred = planes(blur(images, torch.tensor(sigmas)))
    for image, found, sigma in zip(planes(images), blurred, sigmas, strict=True):
        torch.testing.assert_close(found, reference.gaussian_blur(image, [13, 13], [sigma, sigma]), atol=1e-5, rtol=0)


def test_blur_keeps_a_constant_image_and_fits_small_ones() -> None:
    constant = torch.tensor([0.1, 0.5, 0.9]).expand(2, 8, 8, 3)
    torch.testing.assert_close(blur(constant, torch.tensor([0.5, 9.0])), constant)  # 27 pixels do not fit in 8
    two = torch.rand(1, 2, 2, 3, generator=draws())
    assert torch.isfinite(blur(two, torch.tensor([5.0]))).all()


def test_without_any_change_it_normalises() -> None:
    pixels = crops(4)
    before = pixels.clone()
    images = Augmentation(**OFF)(pixels, draws())
    expected = (planes(pixels).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert pixels.equal(before)


def test_the_result_is_float32_in_channels_last_order() -> None:
    for probabilities in (OFF, ALL, ALL | {"blur": 1.0}):
        images = Augmentation(**probabilities)(crops(8), draws())
        assert (images.shape, images.dtype) == ((8, 3, 16, 16), torch.float32)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_each_image_is_drawn_for_itself() -> None:
    same = crops(1).expand(12, -1, -1, -1)
    images = Augmentation(**ALL | {"jitter_probability": 1.0, "grey": 0.0})(same, draws())
    gaps = (images.unsqueeze(0) - images.unsqueeze(1)).abs().amax(dim=(2, 3, 4))
    assert (gaps + torch.eye(12)).min() > 0.01


def test_the_generator_alone_decides() -> None:
    augment, pixels = Augmentation(**ALL), crops(8)
    torch.manual_seed(1)
    first = augment(pixels, draws(5))
    torch.manual_seed(2)
    assert augment(pixels, draws(5)).equal(first)
    assert not augment(pixels, draws(6)).equal(first)


def captured(monkeypatch: pytest.MonkeyPatch, name: str, call: Augmentation, pixels: Tensor) -> list[Tensor]:
    """The arguments after the images with which a function of the module is called."""
    original = getattr(module, name)
    seen: list[Tensor] = []

    def spy(images: Tensor, *arguments: Tensor) -> Tensor:
        seen.extend(each.clone() for each in arguments)
        result: Tensor = original(images, *arguments)
        return result

    monkeypatch.setattr(module, name, spy)
    call(pixels, draws())
    return seen


def assert_uniform(values: npt.NDArray[np.float32], low: float, high: float) -> None:
    """Kolmogorov and Smirnov's statistic, with room for one chance in a million."""
    assert low <= values.min()
    assert values.max() <= high
    steps = np.arange(1, len(values) + 1) / len(values)
    assert np.abs((np.sort(values) - low) / (high - low) - steps).max() < 2.7 / len(values) ** 0.5


def test_jitter_is_uniform_in_its_ranges_and_as_frequent_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    count, augment = 4000, Augmentation(**ALL | {"jitter": (0.4, 0.3, 0.2, 0.1)})
    factors = captured(monkeypatch, "recolour", augment, crops(count, side=1))
    brightness, contrast, saturation, hue = (each.numpy() for each in factors)
    moved = brightness != 1
    assert moved.mean() == pytest.approx(0.8, abs=0.03)  # 5 standard deviations
    assert (moved == (contrast != 1)).all()
    assert (moved == (hue != 0)).all()
    assert_uniform(brightness[moved], 0.6, 1.4)
    assert_uniform(contrast[moved], 0.7, 1.3)
    assert_uniform(saturation[moved & (saturation != 0)], 0.8, 1.2)
    assert_uniform(hue[moved], -0.1, 0.1)
    grey = saturation == 0
    assert grey.mean() == pytest.approx(0.2, abs=0.03)
    assert grey[~moved].mean() == pytest.approx(0.2, abs=0.07)  # whether jittered or not
    chances = np.corrcoef([brightness[moved], contrast[moved], hue[moved]])
    assert np.abs(chances - np.eye(3)).max() < 0.09


def test_blur_is_as_wide_as_the_view_asks_and_as_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    [sigma] = captured(monkeypatch, "blur", Augmentation(**ALL), crops(1000, side=28))
    assert len(sigma) == pytest.approx(500, abs=80)
    assert_uniform(sigma.numpy(), 0.1 * 28 / 224, 2.0 * 28 / 224)


def test_flips_are_as_frequent_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    [chosen] = captured(monkeypatch, "flip", Augmentation(**ALL | {"flip": 0.3}), crops(2000, side=1))
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.05)
