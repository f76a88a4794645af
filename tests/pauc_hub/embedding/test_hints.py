"""What is said of a model and the images at hand, and when nothing is."""

import pytest

from pauc_hub.embedding.hints import about_images, about_input


@pytest.mark.parametrize(("side", "times"), [(518, "5.3"), (384, "2.9"), (378, None), (224, None)])
def test_large_inputs(side: int, times: str | None) -> None:
    message = (
        f"m sees {side} x {side} pixels, {times} times the work of 224: image_size=224 is quicker."
    )
    assert about_input("m", side) == (message if times else None)


@pytest.mark.parametrize(
    ("side", "median", "told"),
    [(64, 129, True), (64, 128, False), (64, None, False), (128, 257, True), (224, 5000, False)],
)
def test_images_that_are_larger_than_the_model_knows(
    side: int, median: int | None, told: bool
) -> None:
    message = about_images("m", side, median)
    assert bool(message) == told
    if message and median:
        assert message == (
            f"m sees {side} x {side} pixels, and half of these images are larger than "
            f"{median - 1}. For photographs "
            "model=vit_small_patch14_reg4_dinov2.lvd142m with image_size=224 is stronger."
        )
