"""The second half of a view: torchvision's arithmetic, each image as was drawn for it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as reference

from pauc_hub.training.config import Config
from pauc_hub.training.data.augment import LUMA, Augmentation, blur, recolour
from pauc_hub.training.data.views import ViewDraws, draw_views

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = Augmentation(MEAN, STD, 2.0 / 224)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int, seed: int = 0, **settings: float) -> ViewDraws:
    return draw_views(Config(**{"size": 32} | settings), count, generator(seed))  # type: ignore[arg-type]


def soft(count: int, side: int = 9) -> Tensor:
    """(count, 3, side, side) in [0.4, 0.6], so that mild changes clip nothing."""
    return 0.4 + 0.2 * torch.rand(count, 3, side, side, generator=generator())


def crops(count: int, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(), dtype=torch.uint8)


def luma(images: Tensor) -> Tensor:
    return (images * LUMA.view(3, 1, 1)).sum(dim=1, keepdim=True)


def recoloured(
    images: Tensor,
    brightness: float = 1,
    contrast: float = 1,
    saturation: float = 1,
    hue: float = 0,
) -> Tensor:
    factors = (
        torch.full((len(images),), float(each)) for each in (brightness, contrast, saturation, hue)
    )
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
    expected = change(images, factor)
    torch.testing.assert_close(recoloured(images, **{name: factor}), expected, atol=2e-4, rtol=0)


def test_the_factors_act_in_torchvisions_order() -> None:
    images = soft(3)
    expected = reference.adjust_brightness(images, 0.7)
    expected = reference.adjust_saturation(reference.adjust_contrast(expected, 1.4), 1.3)
    torch.testing.assert_close(recoloured(images, 0.7, 1.4, 1.3), expected, atol=3e-4, rtol=0)


def test_no_saturation_is_greyscale() -> None:
    images = soft(3)
    expected = reference.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(recoloured(images, saturation=0), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("turns", [0.0, 1.0, -2.0])
def test_a_full_turn_of_the_hue_changes_nothing(turns: float) -> None:
    images = soft(3)
    torch.testing.assert_close(recoloured(images, hue=turns), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [-0.1, 0.03, 0.3])
def test_the_hue_turns_and_keeps_luma(turns: float) -> None:
    images = soft(3)
    turned = recoloured(images, hue=turns)
    torch.testing.assert_close(luma(turned), luma(images), atol=1e-5, rtol=0)
    assert (turned - images).abs().max() > 0.01


def test_opposite_hues_cancel_to_grey_and_turns_add_up() -> None:
    images = soft(3)
    grey = luma(images).expand_as(images)
    torch.testing.assert_close((images + recoloured(images, hue=0.5)) / 2, grey, atol=1e-5, rtol=0)
    twice = recoloured(recoloured(images, hue=0.1), hue=0.15)
    torch.testing.assert_close(twice, recoloured(images, hue=0.25), atol=1e-5, rtol=0)


def test_each_image_has_factors_of_its_own() -> None:
    images = soft(2)
    brightness, one, zero = torch.tensor([0.5, 1.2]), torch.ones(2), torch.zeros(2)
    changed = recolour(images, brightness, one, one, zero)
    torch.testing.assert_close(changed, images * brightness.view(2, 1, 1, 1))


def test_colours_are_clipped_once_at_the_end() -> None:
    images = torch.rand(2, 3, 5, 5, generator=generator())
    changed = recoloured(images, brightness=1.4, contrast=1.4, saturation=1.4)
    assert (changed.min().item(), changed.max().item()) == (0.0, 1.0)
    torch.testing.assert_close(recoloured(images, brightness=2.0), (2 * images).clamp(0, 1))


@pytest.mark.parametrize(
    ("sigma", "side"), [(0.05, 32), (0.28, 32), (0.5, 64), (1.3, 224), (2.0, 224)]
)
def test_blur_is_torchvisions(sigma: float, side: int) -> None:
    """The window is always that of the widest: 3 times 2 pixels of a 224-pixel view."""
    images = torch.rand(2, 3, side, side, generator=generator())
    window = 2 * int(np.ceil(6 * side / 224)) + 1
    expected = reference.gaussian_blur(images, [window, window], [sigma, sigma])
    found = blur(images, torch.tensor([sigma, sigma]), 2 * side / 224)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_window_is_as_wide_as_the_largest_blur_that_was_asked_for() -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator())
    expected = reference.gaussian_blur(images, [13, 13], [2.0, 2.0])
    torch.testing.assert_close(
        blur(images, torch.tensor([2.0, 2.0]), 2.0), expected, atol=1e-5, rtol=0
    )
    pixels, sharp = crops(6, 32), drawn(6, jitter_probability=0.0, grey=0.0, blur=0.0)
    draws = dataclasses.replace(sharp, sigma=torch.full((6,), 2.0))
    augment = Augmentation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2.0 / 32)
    expected = reference.gaussian_blur(pixels / 255, [13, 13], [2.0, 2.0])
    torch.testing.assert_close(augment(pixels, draws).contiguous(), expected, atol=1e-5, rtol=0)


def test_each_image_has_a_blur_of_its_own_whatever_the_others_have() -> None:
    images, sigmas = torch.rand(3, 3, 64, 64, generator=generator()), torch.tensor([0.1, 0.57, 0.3])
    blurred = blur(images, sigmas, 0.6)
    for row, sigma in enumerate(sigmas.tolist()):
        expected = reference.gaussian_blur(images[row], [5, 5], [sigma, sigma])
        torch.testing.assert_close(blurred[row], expected, atol=1e-5, rtol=0)
    assert blur(images[1:2], sigmas[1:2], 0.6).equal(blurred[1:2])


def test_blur_keeps_a_constant_image_and_fits_small_ones() -> None:
    constant = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1).expand(2, 3, 8, 8)
    torch.testing.assert_close(blur(constant, torch.tensor([0.5, 9.0]), 9.0), constant)
    two = torch.rand(1, 3, 2, 2, generator=generator())
    assert torch.isfinite(blur(two, torch.tensor([5.0]), 5.0)).all()


def test_without_any_change_it_normalises() -> None:
    pixels = crops(4)
    before = pixels.clone()
    images = AUGMENT(pixels, drawn(4, jitter_probability=0.0, grey=0.0, blur=0.0))
    expected = (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert pixels.equal(before)


def test_what_is_drawn_is_done_to_each_image() -> None:
    pixels, draws = crops(12), drawn(12)
    images = AUGMENT(pixels, draws) * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(
        3, 1, 1
    )
    assert 3 < int((draws.sigma > 0).sum()) < 9
    colours = (draws.brightness, draws.contrast, draws.saturation, draws.hue)
    for row in range(12):
        image = recolour(pixels[row : row + 1] / 255, *(each[row : row + 1] for each in colours))
        sigma = draws.sigma[row : row + 1]
        expected = blur(image, sigma, 2.0 * 16 / 224) if sigma > 0 else image
        torch.testing.assert_close(images[row : row + 1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_result_is_float32_in_channels_last_order(order: torch.memory_format) -> None:
    expected = AUGMENT(crops(8), drawn(8))
    for chance in (0.0, 0.5, 1.0):
        draws = drawn(8, blur=chance)
        images = AUGMENT(crops(8).contiguous(memory_format=order), draws)
        assert (images.shape, images.dtype) == ((8, 3, 16, 16), torch.float32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.equal(expected) == (chance == 0.5)


def test_a_part_of_a_batch_becomes_what_it_is_in_the_whole() -> None:
    pixels, draws = crops(12), drawn(12)
    whole = AUGMENT(pixels, draws)
    torch.testing.assert_close(AUGMENT(pixels[4:9], draws[4:9]), whole[4:9], atol=1e-6, rtol=0)


def test_the_turn_of_the_hue_is_near_torchvisions(
    picture: Callable[[int, int], Image.Image],
) -> None:
    """About as far and about that way, but luma stays, which HSV's does not (docs/settings.md)."""
    shown = np.stack(
        [np.asarray(picture(40 + i, 40)).transpose(2, 0, 1)[:, :40, :40] for i in range(20)]
    )
    images = torch.from_numpy(shown).float() / 255
    for turns in (-0.1, -0.05, 0.05, 0.1):
        ours = recoloured(images, hue=turns) - images
        theirs = reference.adjust_hue(images, turns) - images
        assert float(ours.norm() / theirs.norm()) == pytest.approx(1.0, abs=0.15)
        assert float((ours * theirs).sum() / (ours.norm() * theirs.norm())) > 0.65
        assert luma(ours).norm() < luma(theirs).norm() / 2
