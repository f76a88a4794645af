"""The three ways do the same kind of thing, and limits are worked out from what was measured."""

import pytest
import torch
from augmentation import OURS, SIZES, Ours, crop_gflop, least_bytes, soft_image, summarise
from measuring import CPU
from per_image import Settings, on_pil, on_tensors
from PIL import Image


def test_views_of_all_three_have_one_form_and_alike_numbers() -> None:
    torch.manual_seed(0)
    settings = Settings(32)
    pixels = [soft_image(i, 32) for i in range(256)]
    ours = Ours(settings, pixels, CPU)
    [batch] = ours.crops(0)
    views = {
        "ours": ours.augment(batch.first, batch.draws[0]),
        "tensors": torch.stack(
            [on_tensors(settings)(torch.from_numpy(image).permute(2, 0, 1)) for image in pixels]
        ),
        "pil": torch.stack([on_pil(settings)(Image.fromarray(image)) for image in pixels]),
    }
    assert {view.shape for view in views.values()} == {(256, 3, 32, 32)}
    assert {view.dtype for view in views.values()} == {torch.float32}
    means, spreads = (
        [of(view).item() for view in views.values()] for of in (torch.mean, torch.std)
    )
    assert means == pytest.approx([means[1]] * 3, abs=0.15)  # each image's brightness is drawn
    assert spreads == pytest.approx([spreads[1]] * 3, rel=0.1)


def test_blurs_are_as_wide_as_ours() -> None:
    assert [Settings(size).kernel for size in SIZES] == [3, 5, 13]
    assert Settings(224).sigma == pytest.approx((0.1, 2.0))


def test_what_no_method_can_do_without() -> None:
    assert least_bytes(2, 4) == 2 * (3 * 16 + 4 * 3 * 4)
    assert crop_gflop(2, 4) == pytest.approx(
        1e-9 * 2 * 2 * (12 * 4 * 2 + 2 * 4 * 6)
    )  # (12, 4) by (4, 2), (2, 4) by (4, 6)


def test_ratios_and_limits_by_hand() -> None:
    ours = {"images_per_second": 6000.0, "cropping_share": 0.5, "cores_busy": 2.0}
    runs = {
        "ceilings": [{"fp32_gflops": 100.0, "copy_gb_per_second": 10.0}],
        "sizes": {
            32: {
                OURS: [ours],
                "theirs": [{"images_per_second": rate} for rate in (500.0, 600.0, 9e9)],
            }
        },
    }
    found = summarise(runs)
    assert found["ratios"] == {32: {"theirs": 10.0}}
    assert found["how far from the limit"][32] == pytest.approx(
        {
            "share_of_copying": 6000 * 2 * (3072 + 4 * 3072) / 10e9,
            "cropping_share": 0.5,
            "crops_share_of_products": 12000 * crop_gflop(32, 32) / 100,
        }
    )
